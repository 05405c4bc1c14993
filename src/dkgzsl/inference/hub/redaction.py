"""Redacted copies of a run's files: without the paths of the machine that made them."""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Collection
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

# An absolute path of two steps at least, not the middle of a word, a relative path or an address: /home/me/birds,
# C:\Users\me\birds, ~/birds. Spaces end it; a text that is a path as a whole may hold them.
_PATH: Final = re.compile(
    r"(?<![\w./~\\])(?:~?/(?:[^/\s\"'<>|:,;()]+/)+|[A-Za-z]:[\\/](?:[^\\/\s\"'<>|:,;()]+[\\/])*)"
)
_WHOLE: Final = re.compile(r"~?/[^/\n]+/[^\n]*|~/[^\n]*|[A-Za-z]:[\\/][^\n]*|\\\\[^\n]*")


# clip:MODEL@FILE, whose path may be a relative one and hold blanks: up to its last step.
_CLIP: Final = re.compile(r"(clip:[\w.-]+@)[^\n\"'`|,;()]*[\\/]")


def redacted(text: str) -> str:
    """A text whose absolute paths are cut down to their last step: `/home/me/birds` becomes `birds`."""
    text = _CLIP.sub(r"\1", text)
    if _WHOLE.fullmatch(text):
        pure = PurePosixPath(text) if text[0] in "/~" else PureWindowsPath(text)
        return pure.name
    return _PATH.sub("", text)


def redacted_values(value: Any) -> Any:
    """JSON values whose texts, and names of entries, are redacted."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, list):
        return [redacted_values(one) for one in value]
    if isinstance(value, dict):
        return {redacted(key): redacted_values(one) for key, one in value.items()}
    return value


def copy_redacted(source: Path, target: Path, *, without: Collection[str] = ()) -> None:
    """Copy one file of a run without paths; the tensors of a safetensors file are copied as they are.

    Args:
        source: the file.
        target: a new file; its folder exists.
        without: entries of a JSON object that are left out.

    Raises:
        OSError: it cannot be read or written.
        ValueError: it is not of the kind that its name says.
    """
    if source.suffix == ".safetensors":
        _copy_tensors(source, target)
        return
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".json":
        content = json.loads(text)
        if isinstance(content, dict):
            content = {key: value for key, value in content.items() if key not in without}
        text = json.dumps(redacted_values(content), indent=2, ensure_ascii=False) + "\n"
    elif source.suffix == ".jsonl":
        lines = (json.loads(line) for line in text.splitlines() if line)
        text = "".join(json.dumps(redacted_values(line), ensure_ascii=False) + "\n" for line in lines)
    elif source.suffix == ".yaml":
        import yaml

        text = yaml.safe_dump(redacted_values(yaml.safe_load(text)), sort_keys=False, allow_unicode=True)
    else:
        text = "".join(redacted(line) for line in text.splitlines(keepends=True))
    target.write_text(text, encoding="utf-8", newline="")


def _copy_tensors(source: Path, target: Path) -> None:
    """A safetensors file is the length of its header, the header in JSON, and the tensors."""
    with source.open("rb") as file, target.open("wb") as copy:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        values = header.get("__metadata__", {})
        header["__metadata__"] = {key: _redacted_json(text) for key, text in values.items()}
        content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        content += b" " * (-len(content) % 8)  # tensors begin at a multiple of 8
        copy.write(struct.pack("<Q", len(content)) + content)
        shutil.copyfileobj(file, copy, 2**20)


def _redacted_json(text: str) -> str:
    """Metadata holds JSON in a text."""
    try:
        return json.dumps(redacted_values(json.loads(text)))
    except ValueError:
        return redacted(text)
