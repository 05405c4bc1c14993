"""What of a run travels: named files, cleared of this machine's paths, with a manifest of their hashes.

Photos do not travel, nor what is drawn from them (`report.html`), nor what only resuming needs. Who receives a run
trusts nothing of it: names that are not on the list, links, other sizes or hashes, and anything but safetensors
and text are refused before the run is there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

import dkgzsl
from dkgzsl.errors import RunError
from dkgzsl.files import sha256_of
from dkgzsl.inference.hub.redaction import copy_scrubbed, scrubbed
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.runs.folder import RunFolder
from dkgzsl.runs.model_card import model_card

MANIFEST: Final = "manifest.json"
CARD: Final = "README.md"
"""The card's name on model hubs; in a run folder it is `card.md`."""
FORMAT: Final = "dkgzsl travelling run 1"
LARGEST_TENSORS: Final = 8 * 2**30
LARGEST_TEXT: Final = 256 * 2**20
LARGEST_MANIFEST: Final = 4 * 2**20
BESIDE: Final = frozenset({MANIFEST, ".gitattributes", "LICENSE"})
"""What may lie beside the run's own files; only the manifest is read."""

_NEEDED: Final = (
    "config.yaml",
    "environment.json",
    "metrics.jsonl",
    "model.safetensors",
    "recognizer.json",
    "result.json",
)
_MODEL = r"(model|representation)(-[0-9]{1,4})?\.safetensors|evidence\.safetensors|recognizer\.json"
_TEXTS = r"config\.yaml|environment\.json|metrics\.jsonl|result\.json|per_class\.csv|README\.md"
_VERSION = r"versions/[1-9][0-9]{0,5}/(model\.safetensors|representation\.safetensors|evidence\.safetensors|"
_VERSION += r"recognizer\.json|history\.json)"
_TRAVELS: Final = re.compile(f"{_MODEL}|{_TEXTS}|{_VERSION}")


@dataclass(frozen=True)
class Entry:
    """A file of the manifest.

    Attributes:
        size: bytes.
        sha256: of its content.
    """

    size: int
    sha256: str


Manifest = Mapping[str, Entry]


def pack(run: Path, folder: Path, *, license_id: str = "other") -> str:
    """Copy what travels of a finished run into an empty folder, with manifest and card.

    Returns:
        sha256 of the manifest, which stands for the whole.

    Raises:
        RunError: the run is not finished, or something cannot be read or written.
    """
    opened = RunFolder.open(run)
    result, environment = opened.read_json("result.json"), opened.read_json("environment.json")
    Recognizer.from_run(run)  # what cannot be loaded here cannot be loaded there
    card = scrubbed(model_card(result, result, environment, license_id=license_id))
    entries = {}
    try:
        for name in _travelling(run):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_scrubbed(run / name, target)
        (folder / CARD).write_text(card, encoding="utf-8")
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entries[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": sha256_of(path)}
        content = {"format": FORMAT, "dkgzsl": dkgzsl.__version__, "files": entries}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise RunError(f"the run cannot be packed: {error.strerror or error}", where=str(run)) from error
    return sha256(text.encode()).hexdigest()


def _travelling(run: Path) -> Iterator[str]:
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if name != CARD and _TRAVELS.fullmatch(name) and path.is_file():
            yield name


def read_manifest(content: bytes, *, where: str) -> Manifest:
    """The manifest, every name and size scored.

    Raises:
        RunError: it is damaged, or names what does not travel.
    """
    try:
        parsed = json.loads(content)
        if parsed["format"] != FORMAT:
            raise RunError(f"the manifest's format is {parsed['format']!r}", where=where, fix="use a newer dkgzsl")
        listed = {name: (one["size"], one["sha256"]) for name, one in parsed["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"the manifest is damaged: {error!r}", where=where) from error
    for name, (size, digest) in listed.items():
        if not _TRAVELS.fullmatch(name):
            raise RunError(f"the manifest names a file that is no part of a run: {name!r}", where=where)
        if type(size) is not int or not 0 <= size <= _largest(name):
            raise RunError(f"the manifest gives {name} a size that no run has: {size!r}", where=where)
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise RunError(f"the manifest gives {name} no sha256", where=where)
    missing = [name for name in _NEEDED if name not in listed]
    if missing:
        raise RunError(f"the manifest lacks {', '.join(missing)}: this is no finished run", where=where)
    return {name: Entry(size, digest) for name, (size, digest) in listed.items()}


def _largest(name: str) -> int:
    return LARGEST_TENSORS if name.endswith(".safetensors") else LARGEST_TEXT


def check_names(manifest: Manifest, there: Mapping[str, int | None], *, where: str) -> None:
    """That exactly the manifest's files are there, at their sizes (None: not known yet).

    Raises:
        RunError: one is missing, has another size, or a file is there that the manifest does not name.
    """
    for name in sorted(set(there) - set(manifest) - BESIDE):
        raise RunError(f"there is a file that the manifest does not name: {name!r}", where=where)
    for name, entry in manifest.items():
        if name not in there:
            raise RunError(f"{name} is missing", where=where)
        if there[name] not in (None, entry.size):
            raise RunError(f"{name} has {there[name]:,} bytes, the manifest says {entry.size:,}", where=where)


def receive(manifest: Manifest, fetch: Callable[[str], Path], out: Path, *, where: str) -> None:
    """Copy the manifest's files into a new run folder, each verified; the folder is there whole, or not at all.

    Args:
        manifest: scored already.
        fetch: where a named file lies on this machine.
        out: the run folder, new or empty.
        where: the source, for messages.

    Raises:
        RunError: a file is a link, has another size or hash, or is not what its name says; or `out` is taken.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError("there is something already", where=str(out), fix="name a new folder with --out")
    draft = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for name, entry in manifest.items():
            target = draft / ("card.md" if name == CARD else name)
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy_verified(fetch(name), target, entry, name=name, where=where)
            _check_content(target, name=name, where=where)
        _check_loads(draft, _versions(manifest), where=where)
        draft.replace(out)
    except OSError as error:
        raise RunError(f"the run cannot be written: {error.strerror or error}", where=str(out)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_loads(run: Path, versions: list[int], *, where: str) -> None:
    for version in (0, *versions):
        try:
            Recognizer.from_run(run, version)
        except Exception as error:  # of whatever kind a crafted file makes loading raise
            raise RunError(f"version {version} of the run cannot be loaded: {error}", where=where) from error


def _versions(manifest: Manifest) -> list[int]:
    return sorted({int(name.split("/")[1]) for name in manifest if name.startswith("versions/")})


def _copy_verified(source: Path, target: Path, entry: Entry, *, name: str, where: str) -> None:
    """One pass: what was hashed is what was written, however the source changes meanwhile."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    digest, done = sha256(), 0
    try:
        descriptor = os.open(source, flags)
    except OSError as error:
        raise RunError(f"{name} cannot be read: {error.strerror}", where=where) from error
    with os.fdopen(descriptor, "rb") as file, target.open("wb") as copy:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise RunError(f"{name} is no ordinary file", where=where)
        while piece := file.read(2**20):
            done += len(piece)
            if done > entry.size:
                break
            digest.update(piece)
            copy.write(piece)
    if done != entry.size or digest.hexdigest() != entry.sha256:
        raise RunError(
            f"{name} is not the file that was pushed: size or sha256 differ", where=where, fix="pull it again"
        )


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
