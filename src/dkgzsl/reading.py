"""Files that may be damaged or made to harm: whatever is wrong with one becomes an error of this package.

Text, JSON, YAML and NumPy's files are read here, JSON by a strict schema. Arrays of .npy files are mapped, so that
a size that the file only claims takes no memory; those of .npz files are measured before they are unpacked.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dkgzsl.errors import DataError, DkgzslError

if TYPE_CHECKING:  # the command line imports this module first of all, and help stays quick
    import numpy as np

T = TypeVar("T")

BYTES: Final = 128 * 2**20
BYTES_A_BYTE: Final = 32
"""What a file holds may take so many bytes in memory, and so many more for each byte of the file."""
_MOST_SHOWN: Final = 200


def most_bytes(file_size: int) -> int:
    """Bytes that the content of a file of `file_size` bytes may take in memory."""
    return BYTES + BYTES_A_BYTE * file_size


@contextmanager
def reading(
    what: str,
    where: str | Path,
    *,
    error: Callable[..., DkgzslError] = DataError,
    fix: str | None = None,
    verified: bool = False,
) -> Iterator[None]:
    """A block that reads a file: whatever it raises becomes one error of this package.

    The libraries that read files raise errors of many kinds on a damaged one. Errors of this package pass.
    A file whose checksum is right is not damaged: what its block raises is a bug of this package, and stays
    visible.

    Args:
        what: what cannot be read, as the message begins.
        where: the file, for the message.
        error: the class of the error.
        fix: what to do next.
        verified: whether a checksum has shown that the file is as this package wrote it.

    Raises:
        DkgzslError: of the class `error`: the block failed, and the file may be damaged.
    """
    try:
        yield
    except DkgzslError:
        raise
    except Exception as problem:
        if verified:
            raise
        raise error(f"{what}: {reason_of(problem)}", where=str(where), fix=fix) from problem


def reason_of(problem: BaseException) -> str:
    """One line that says what went wrong, without the name of the file and without what no terminal shows."""
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    if isinstance(problem, RecursionError):
        return "it is nested too deeply"
    if isinstance(problem, MemoryError):
        return "it does not fit into memory"
    if isinstance(problem, UnicodeDecodeError):
        return f"byte {problem.start + 1} is no UTF-8 text"
    if isinstance(problem, KeyError):
        return f"there is no {problem}"
    lines = str(problem).strip().splitlines()
    text = "".join(one if one.isprintable() else "?" for one in (lines[0] if lines else ""))
    return text[:_MOST_SHOWN] or type(problem).__name__


def read_text(
    path: Path, what: str, *, error: Callable[..., DkgzslError] = DataError, fix: str | None = None
) -> str:
    """The content of a text file in UTF-8.

    Raises:
        DkgzslError: of the class `error`: it is not there, cannot be read, or is no UTF-8 text.
    """
    with reading(what, path, error=error, fix=fix):
        return path.read_text(encoding="utf-8")


def read_json(
    path: Path,
    schema: Any,
    what: str,
    *,
    error: Callable[..., DkgzslError] = DataError,
    fix: str | None = None,
) -> Any:
    """The content of a JSON file, checked by a schema.

    Args:
        path: the file.
        schema: a type that pydantic knows, such as a subclass of `pydantic.BaseModel`; checked strictly: `1` is no
            text and `"1"` no number.
        what: what cannot be read, as messages begin.
        error: the class of errors.
        fix: what to do next.

    Returns:
        The content as JSON values: the schema checks it and does not change it.

    Raises:
        DkgzslError: of the class `error`: the file cannot be read, is no JSON, or does not fit the schema.
    """
    content = parse_json(read_text(path, what, error=error, fix=fix), what, path, error=error, fix=fix)
    check_schema(content, schema, what, path, error=error, fix=fix)
    return content


def parse_json(
    text: str,
    what: str,
    where: str | Path,
    *,
    error: Callable[..., DkgzslError] = DataError,
    fix: str | None = None,
) -> Any:
    """JSON values from text; half of a surrogate pair, which no file or terminal takes, is refused.

    Raises:
        DkgzslError: of the class `error`: it is no JSON, or nested too deeply.
    """
    with reading(what, where, error=error, fix=fix):
        content = json.loads(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(content, ensure_ascii=False).encode()
        return content


def read_json_lines(
    path: Path,
    schema: Any,
    what: str,
    *,
    error: Callable[..., DkgzslError] = DataError,
    fix: str | None = None,
) -> list[Any]:
    """The values of a file with one JSON value a line, each checked by a schema.

    What follows the last line end is a line that was broken off, and is left out.

    Raises:
        DkgzslError: of the class `error`, as `read_json` does.
    """
    return [value for _, value in json_lines(path, schema, what, error=error, fix=fix)]


_STRIP: Final = 1000  # lines that are checked at once: a check of each alone takes longer, one of all takes memory


def json_lines(
    path: Path,
    schema: Any,
    what: str,
    *,
    error: Callable[..., DkgzslError] = DataError,
    fix: str | None = None,
) -> Iterator[tuple[str, Any]]:
    """The same, value by value, each with its line (without the line end); only some lines are in memory.

    Raises:
        DkgzslError: of the class `error`, as `read_json` does.
    """
    import pydantic

    checked = pydantic.TypeAdapter(list[schema])
    with reading(what, path, error=error, fix=fix), path.open(encoding="utf-8", newline="\n") as file:
        number = 0
        while strip := [line[:-1] for line in islice(file, _STRIP) if line.endswith("\n")]:
            found = [
                parse_json(line, f"{what}, line {number + place}", path, error=error, fix=fix)
                for place, line in enumerate(strip, 1)
            ]
            check_schema(found, checked, what, path, error=error, fix=fix, first=number)
            yield from zip(strip, found, strict=True)
            number += len(strip)


def check_schema(
    content: Any,
    schema: Any,
    what: str,
    where: str | Path,
    *,
    error: Callable[..., DkgzslError] = DataError,
    fix: str | None = None,
    first: int = 0,
) -> None:
    """That JSON values fit a schema, strictly.

    Args:
        content: the values.
        schema: a type that pydantic knows, or a type adapter.
        what: what cannot be read, as messages begin.
        where: the file.
        error: the class of errors.
        fix: what to do next.
        first: place of the first value of a list in its file.

    Raises:
        DkgzslError: of the class `error`: they do not; the message names the first place.
    """
    import pydantic

    try:
        adapter = schema if isinstance(schema, pydantic.TypeAdapter) else pydantic.TypeAdapter(schema)
        adapter.validate_python(content, strict=True)
    except pydantic.ValidationError as problem:
        wrong = problem.errors(include_url=False, include_context=False)[0]
        parts = list(wrong["loc"])
        if first and parts:
            parts[0] = int(parts[0]) + first
        place = ".".join(map(str, parts)) or "the file"
        shown = "" if wrong["type"] in ("missing", "extra_forbidden") else f", not {wrong['input']!r:.60}"
        message = f"{what}: {place}: {wrong['msg'].lower()}{shown}"
        raise error(message[: 2 * _MOST_SHOWN], where=str(where), fix=fix) from problem
    except RecursionError as problem:
        raise error(f"{what}: it is nested too deeply", where=str(where), fix=fix) from problem


def load_npy(
    path: Path,
    what: str,
    *,
    mapped: bool = False,
    error: Callable[..., DkgzslError] = DataError,
    fix: str | None = None,
) -> np.ndarray:
    """The array of a .npy file; no file is unpickled.

    Args:
        path: the file.
        what: what cannot be read, as messages begin.
        mapped: whether the array stays a memory map.
        error: the class of errors.
        fix: what to do next.

    Raises:
        DkgzslError: of the class `error`: the file is missing, cut off, or is no such file.
    """
    import numpy as np

    with reading(what, path, error=error, fix=fix):
        with path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise ValueError("it is no .npy file")
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        return found if mapped else np.array(found)


def load_npz(
    path: Path,
    what: str,
    *,
    names: Callable[[list[str]], list[str]] = list,
    error: Callable[..., DkgzslError] = DataError,
    fix: str | None = None,
) -> Mapping[str, np.ndarray | None]:
    """Arrays of a .npz file by name; no file is unpickled.

    Args:
        path: the file.
        what: what cannot be read, as messages begin.
        names: of the names in the file, those to read (default: all).
        error: the class of errors.
        fix: what to do next.

    Returns:
        Every name in the file, with None for an array that was not read.

    Raises:
        DkgzslError: of the class `error`: the file is missing or damaged, or its arrays are larger than those of a
            file of its size may be.
    """
    import numpy as np

    with reading(what, path, error=error, fix=fix):
        limit = most_bytes(os.stat(path).st_size)  # noqa: PTH116  (a path that is text serves, too)
        with zipfile.ZipFile(path) as archive:
            taken = sum(member.file_size for member in archive.infolist())
        if taken > limit:
            raise ValueError(f"it unpacks to {taken >> 20:,} MiB, more than {limit >> 20:,} MiB")
        with np.load(path, allow_pickle=False) as file:
            wanted = set(names(file.files))
            return {name: np.asarray(file[name]) if name in wanted else None for name in file.files}


_NUMBERS: Final = {
    "int": re.compile(r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+"),
    "float": re.compile(
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
}
_MOST_VALUES: Final = 100_000
"""Values of a YAML file, each counted as often as aliases repeat it."""


def parse_yaml(text: str) -> Any:
    """The values of a YAML text by the rules of YAML 1.2: `on`, `1:30` and dates are text, `1e-3` is a number.

    Raises:
        Exception: of many kinds: it is no YAML, has a value that its tag does not take, or is too large or deep.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Plain values only, as its base."""

    kept = ("null", "merge", "bool")
    Loader.yaml_implicit_resolvers = {
        first: [
            (tag, form) for tag, form in found if tag.endswith(kept) and (first in "tTfF" or "bool" not in tag)
        ]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for kind, form in _NUMBERS.items():
        whole = re.compile(f"(?:{form.pattern})$")
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", whole, list("-+.0123456789"))
    Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _values_in(node, {}) > _MOST_VALUES:
            raise ValueError(f"it has more than {_MOST_VALUES:,} values")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _whole_number(loader: Any, node: Any) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    return int(text, 16) if text.startswith("0x") else int(text)


def _values_in(node: Any, known: dict[int, int]) -> int:
    """Values of a node; one that holds itself, by an alias, counts as too many."""
    import yaml

    if id(node) in known:
        return known[id(node)]
    known[id(node)] = _MOST_VALUES + 1  # until it is counted: a node that meets itself holds itself
    parts = node.value if isinstance(node, yaml.CollectionNode) else ()
    pairs = [one for pair in parts for one in (pair if isinstance(pair, tuple) else (pair,))]
    known[id(node)] = 1 + sum(_values_in(one, known) for one in pairs)
    return known[id(node)]
