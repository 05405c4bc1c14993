"""`problem.json`, the record of an imported problem: exactly these names, with values of these types."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from dkgzsl.errors import DataError
from dkgzsl.reading import check_schema, parse_json, read_text

FORMAT: Final = "dkgzsl problem 1"
DAMAGED: Final = "the file is damaged"
_AGAIN: Final = "import the folder again"


def read_record(path: Path) -> dict[str, Any]:
    """The record: `name`, `source`, `semantics`, and `classes`, each with `class` and `role`.

    Raises:
        DataError: there is none, it is of another format, or a name or value is not as it must be.
    """
    if not path.is_file():
        raise DataError("no imported problem", where=str(path), fix="dkgzsl data import FOLDER --out PROBLEM")
    record = parse_json(read_text(path, DAMAGED, fix=_AGAIN), DAMAGED, path, fix=_AGAIN)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise DataError(f"not a problem of the format {FORMAT!r}", where=str(path), fix=_AGAIN)
    check_schema(record, _schema(), DAMAGED, path, fix=_AGAIN)
    return record


@cache
def origin_schema() -> Any:
    """What `semantics/NAME.json` holds: the encoder, its library, and the text of each class; other names pass."""
    from pydantic import ConfigDict, create_model

    return create_model(
        "Computed",
        __config__=ConfigDict(strict=True, extra="allow"),
        encoder=(str | None, None),
        library=(str | None, None),
        texts=(dict[str, str], {}),
    )


@cache
def _schema() -> Any:
    """What problem.json holds, and nothing else; made when first needed, since pydantic takes a while."""
    from pydantic import ConfigDict, Field, create_model

    rules = ConfigDict(strict=True, extra="forbid")
    role = Literal["seen", "seen-train", "seen-val", "unseen"]
    one = create_model("Class", __config__=rules, name=(str, Field(alias="class", min_length=1)), role=(role, ...))
    listed: Any = Annotated[list[one], Field(min_length=1)]
    return create_model(
        "ProblemRecord",
        __config__=rules,
        format=(str, ...),
        name=(str, ...),
        source=(str, ...),
        source_from_here=(str | None, None),
        extraction=(dict[str, str] | None, None),
        semantics=(str, ...),
        classes=(listed, ...),
    )
