"""Hashes of files, recorded with every number."""

from __future__ import annotations

from hashlib import file_digest
from pathlib import Path


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
