"""Class descriptions from text alone: names or one-line descriptions through a text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dkgzsl.data.formats.tables import SemanticTable, read_named_columns
from dkgzsl.data.names import clean_name, spoken_name
from dkgzsl.errors import ConfigError, DataError, nearest
from dkgzsl.features.text_encoder import absolute_name, encode_texts

NAME_TEMPLATE: Final = "a photo of a {name}"
DESCRIPTION_TEMPLATE: Final = "{description}"
_FIELDS: Final = ("{name}", "{description}")


def texts_of(
    classes: Sequence[str], *, template: str | None = None, descriptions: Mapping[str, str] | None = None
) -> list[str]:
    """The sentence that stands for each class.

    Args:
        classes: class names; underscores become blanks, and a number before a dot, as in `012.Name`, is left out.
        template: holds `{name}`, `{description}` or both (default: `a photo of a {name}`, with descriptions
            `{description}`).
        descriptions: a sentence a class.

    Raises:
        ConfigError: the template holds neither, or a description where there are none.
        DataError: a class has no description.
    """
    template = template or (NAME_TEMPLATE if descriptions is None else DESCRIPTION_TEMPLATE)
    if not any(field in template for field in _FIELDS):
        raise ConfigError(f"the template {template!r} holds neither {_FIELDS[0]} nor {_FIELDS[1]}")
    if "{description}" in template and descriptions is None:
        raise ConfigError(f"the template {template!r} needs descriptions", fix="give a file with --descriptions")
    missing = [name for name in classes if descriptions is not None and not descriptions.get(name)]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(classes)} classes have no description, the first is {missing[0]!r}",
            fix=nearest(missing[0], descriptions or {}, of="described")[:200],
        )
    return [
        template.replace("{name}", spoken_name(name)).replace("{description}", (descriptions or {}).get(name, ""))
        for name in classes
    ]


def read_descriptions(path: Path) -> dict[str, str]:
    """Read a CSV file with the columns `class` and `description`.

    Raises:
        DataError: the file cannot be read, lacks a column, or has a class twice.
    """
    found: dict[str, str] = {}
    for line, (cell, text) in read_named_columns(path, ("class", "description")):
        name = clean_name(cell)
        if name in found:
            raise DataError(f"class {name!r} has two rows", where=f"{path}, row {line}", fix="keep one of them")
        found[name] = text
    return found


def encode(
    classes: Sequence[str], texts: Sequence[str], *, encoder: str, device: str | None = None
) -> tuple[SemanticTable, dict[str, Any]]:
    """Encode a sentence a class by a sentence-transformers model, or by CLIP's text half.

    Args:
        classes: class names.
        texts: their sentences.
        encoder: a model's name, the folder that holds one, or `clip:MODEL@WEIGHTS`.
        device: where it runs (default: the library's choice).

    Returns:
        The table [K, S], and what is recorded of it: encoder, its library's version, the sentences.

    Raises:
        DataError: the extra is not installed, or the encoder cannot be loaded.
    """
    vectors, library = encode_texts(texts, encoder=encoder, device=device)
    width = len(str(vectors.shape[1] - 1))
    columns = tuple(f"embedding_{number:0{width}}" for number in range(vectors.shape[1]))
    origin = {
        "encoder": absolute_name(encoder),
        "library": library,
        "texts": dict(zip(classes, texts, strict=True)),
    }
    return SemanticTable(tuple(classes), columns, vectors), origin
