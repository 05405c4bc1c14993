"""A run as a package: its named files without this machine's paths, and a manifest of their hashes.

Photos are left out, and so are pages that show them (`report.html`) and what only resuming needs. Who receives a
package trusts nothing of it: names that are not on the list, links, other sizes or hashes, and anything but
safetensors and text are refused before the run is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

import dkgzsl
from dkgzsl.errors import RunError
from dkgzsl.files import Manifest, ManifestEntry, copy_verified, manifest_of, whole_folder
from dkgzsl.inference.hub.redaction import copy_redacted, redacted
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.runs.folder import RunFolder
from dkgzsl.runs.later import card_of

MANIFEST: Final = "manifest.json"
CARD: Final = "README.md"
"""The card's name on model hubs; in a run folder it is `card.md`."""
FORMAT: Final = "dkgzsl package 2"
_READ: Final = (FORMAT, "dkgzsl travelling run 1")
LARGEST_TENSORS: Final = 8 * 2**30
LARGEST_TEXT: Final = 256 * 2**20
LARGEST_MANIFEST: Final = 4 * 2**20
BESIDES: Final = frozenset({MANIFEST, ".gitattributes", "LICENSE"})
"""Files that may lie in a package's folder without being of the run; only the manifest is read."""

_LOCAL: Final = ("places", "photo", "photo_from_here")
"""Entries of `environment.json` that say where things lie on the sender's machine."""
_NEEDED: Final = (
    "config.yaml",
    "environment.json",
    "metrics.jsonl",
    "model.safetensors",
    "recognizer.json",
    "result.json",
)
_MODEL = (
    r"(model|representation)(-[0-9]{1,4})?\.safetensors|(evidence|in_distribution)\.safetensors|recognizer\.json"
)
_TEXTS = r"config\.yaml|environment\.json|metrics\.jsonl|result\.json|per_class\.csv|README\.md"
_VERSION = (
    r"versions/[1-9][0-9]{0,5}/((model|representation|evidence|in_distribution)\.safetensors|"
    r"recognizer\.json|history\.json)"
)
_PACKAGED: Final = re.compile(f"{_MODEL}|{_TEXTS}|{_VERSION}")


def pack(run: Path, folder: Path, *, license_id: str = "other", versions: Collection[int] | None = None) -> str:
    """Copy a finished run's files into an empty folder, redacted, with manifest and card.

    Args:
        run: the run folder.
        folder: where the package goes.
        license_id: the hub's name of a licence, for the card.
        versions: the later versions that are packed (default: all).

    Returns:
        sha256 of the manifest, which stands for the whole.

    Raises:
        RunError: the run is not finished, or something cannot be read or written.
    """
    RunFolder.open(run)
    Recognizer.from_run(run)  # what cannot be loaded here cannot be loaded there
    card = redacted(card_of(run, license_id=license_id))
    try:
        for name in _packaged(run, versions):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_redacted(run / name, target, without=_LOCAL)
        (folder / CARD).write_text(card, encoding="utf-8")
        files = {name: asdict(entry) for name, entry in manifest_of(folder).items()}
        content = {"format": FORMAT, "dkgzsl": dkgzsl.__version__, "files": files}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise RunError(f"the run cannot be packed: {error.strerror or error}", where=str(run)) from error
    return sha256(text.encode()).hexdigest()


def _packaged(run: Path, versions: Collection[int] | None) -> Iterator[str]:
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if versions is not None and name.startswith("versions/") and not _is_of(name, versions):
            continue
        if name != CARD and _PACKAGED.fullmatch(name) and path.is_file():
            yield name


def _is_of(name: str, versions: Collection[int]) -> bool:
    number = name.split("/")[1]
    return number.isdecimal() and int(number) in versions


def read_manifest(content: bytes, *, where: str) -> Manifest:
    """A package's manifest, of this format or the one before; every name and size is checked.

    Args:
        content: of the manifest's file.
        where: the package, for messages.

    Raises:
        RunError: it is damaged, of a format that is not known, or names a file that no package has.
    """
    try:
        parsed = json.loads(content)
        if parsed["format"] not in _READ:
            raise RunError(f"the manifest's format is {parsed['format']!r}", where=where, fix="use a newer dkgzsl")
        listed = {name: (one["size"], one["sha256"]) for name, one in parsed["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"the manifest is damaged: {error!r}", where=where) from error
    for name, (size, digest) in listed.items():
        if not _PACKAGED.fullmatch(name):
            raise RunError(f"the manifest names a file that is no part of a run: {name!r}", where=where)
        if type(size) is not int or not 0 <= size <= _largest(name):
            raise RunError(f"the manifest gives {name} a size that no run has: {size!r}", where=where)
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise RunError(f"the manifest gives {name} no sha256", where=where)
    missing = [name for name in _NEEDED if name not in listed]
    if missing:
        raise RunError(f"the manifest lacks {', '.join(missing)}: this is no finished run", where=where)
    return {name: ManifestEntry(size, digest) for name, (size, digest) in listed.items()}


def _largest(name: str) -> int:
    return LARGEST_TENSORS if name.endswith(".safetensors") else LARGEST_TEXT


def receive(manifest: Manifest, fetch: Callable[[str], Path], out: Path, *, where: str) -> None:
    """Copy the manifest's files into a new run folder, each verified; the folder is there whole, or not at all.

    Args:
        manifest: as `read_manifest` checked it.
        fetch: where a named file lies on this machine.
        out: the run folder, new or empty.
        where: the package, for messages.

    Raises:
        RunError: a file is a link, has another size or hash, or is not what its name says; or `out` is taken.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError("there is something already", where=str(out), fix="name a new folder with --out")
    try:
        with whole_folder(out) as draft:
            for name, entry in manifest.items():
                target = draft / ("card.md" if name == CARD else name)
                target.parent.mkdir(parents=True, exist_ok=True)
                copy_verified(fetch(name), target, entry, name=name, where=where)
                _check_content(target, name=name, where=where)
            _check_loads(draft, versions_in(manifest), where=where)
    except OSError as error:
        raise RunError(f"the run cannot be written: {error.strerror or error}", where=str(out)) from error


def _check_loads(run: Path, versions: list[int], *, where: str) -> None:
    for version in (0, *versions):
        try:
            Recognizer.from_run(run, version)
        except Exception as error:  # of whatever kind a crafted file makes loading raise
            raise RunError(f"version {version} of the run cannot be loaded: {error}", where=where) from error


def versions_in(manifest: Manifest) -> list[int]:
    """The later versions that a package holds, ascending."""
    return sorted({int(name.split("/")[1]) for name in manifest if name.startswith("versions/")})


def _check_content(path: Path, *, name: str, where: str) -> None:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                file.keys()
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        else:
            path.read_text(encoding="utf-8")
    except (SafetensorError, ValueError, RecursionError) as error:
        raise RunError(f"{name} is not what its name says: {error}", where=where) from error
