"""Hashes of files, recorded with every number."""

from __future__ import annotations

from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

_WHOLE_UP_TO: Final = 2 * 2**30
_END: Final = 64 * 2**20


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """The file's SHA-256, or above 2 GiB `ends:` and that of its size, first and last 64 MiB.

    Region maps of tens of gigabytes would take a minute to read in full before each run.
    """
    size = path.stat().st_size
    if size <= _WHOLE_UP_TO:
        return sha256_of(path)
    digest = sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(_END))
        file.seek(size - _END)
        digest.update(file.read(_END))
    return f"ends:{digest.hexdigest()}"
