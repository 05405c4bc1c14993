"""A benchmark data set from its official archive to files that `load_dataset` finds.

Below the data root: `CUB/res101.mat`, `CUB/att_splits.mat` (features); `CUB/images/`, `CUB/annotations/` (images);
`CUB/fetched.json`, which says where each came from and with which sha256; `downloads/`, with what is not finished
and the one archive that several data sets share.
"""

from __future__ import annotations

import filecmp
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, get_type_hints
from urllib.parse import urlsplit

import filelock

from dkgzsl.data.fetching.archives import BadArchiveError, Progress, check_room, disk_error, unpack
from dkgzsl.data.fetching.download import Downloaded, Partial, Patience, download
from dkgzsl.data.fetching.sources import Source
from dkgzsl.errors import DataError
from dkgzsl.files import sha256_of, sweep, write_whole
from dkgzsl.reading import read_json
from dkgzsl.writing import locked

RECORD: Final = "fetched.json"
SLACK: Final = 4
"""Files may be this many times larger than the approximate size says, before they are taken for wrong ones."""

Checked = Literal["known", "recorded before", "recorded now"]


@dataclass(frozen=True)
class Plan:
    """What fetching would do.

    Attributes:
        source: the archive.
        address: URL or path that it comes from.
        folder: the data set's folder.
        archive: where the archive is or will be on this machine.
        state: `present`: the data is here; `archive`: the archive is, only to be unpacked; `partial`: a part of it
            is, to be continued; `absent`.
        bytes_here: of the archive.
    """

    source: Source
    address: str
    folder: Path
    archive: Path
    state: Literal["present", "archive", "partial", "absent"]
    bytes_here: int

    @property
    def local(self) -> bool:
        """Whether the archive is a file of the user's."""
        return not _is_url(self.address)


@dataclass(frozen=True)
class Origin:
    """Where fetched data came from, as `fetched.json` keeps it.

    Attributes:
        url: address or path of the archive.
        sha256: of the archive.
        checked: `known`: it is the one published or widely stated; `recorded before`: the same as at an earlier
            fetch; `recorded now`: none was known, later fetches are compared with it.
        size: bytes of the archive.
        etag: the server's name for this version.
        date: day and time of the fetch, UTC.
        terms: licence or terms.
    """

    url: str
    sha256: str
    checked: Checked
    size: int
    etag: str | None
    date: str
    terms: str


def plan_fetch(source: Source, root: Path, *, address: str | None = None) -> Plan:
    """Find out what is here and what is missing; nothing is changed.

    Args:
        source: the archive.
        root: the folder that holds the data sets.
        address: URL or path to take the archive from instead of the official address.

    Raises:
        DataError: the address is neither an http(s) URL nor a file.
    """
    address = address or source.url
    archive = root / "downloads" / source.archive
    if not _is_url(address):
        if "://" in address:
            raise DataError(
                f"not an address that can be fetched: {address}", fix="give an http(s) address or a file"
            )
        archive = Path(address).expanduser()
        if not archive.is_file():
            raise DataError(
                "there is no such archive", where=str(archive), fix="give an http(s) address or a file"
            )
    folder = root / source.dataset
    state: Literal["present", "archive", "partial", "absent"] = "absent"
    size = 0
    if _present(source, folder):
        state = "present"
    elif archive.is_file():
        state, size = "archive", archive.stat().st_size
    elif resumable := Partial(archive).resumable(address):
        state, size = "partial", resumable
    return Plan(source, address, folder, archive, state, size)


def fetch(
    plan: Plan,
    *,
    patience: Patience | None = None,
    downloading: Progress | None = None,
    unpacking: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Origin | None:
    """Bring the data here: download, check, unpack; the data appears under its final names whole or not at all.

    Returns:
        Where the data came from, at this fetch or an earlier one; None where it is here without a record.

    Raises:
        DataError: of `download` and `unpack`; another archive than expected; files of the same name, but another
            content, are in the way; another fetch of the same archive is at work.
    """
    source, root = plan.source, plan.folder.parent
    if plan.state == "present":
        there = read_origins(plan.folder).get(source.what)
        if there is not None and there.url == plan.address and plan.archive.is_file():
            with suppress(OSError, DataError), _lock(root / "downloads" / f"{source.archive}.lock"):
                _remove_archive(plan)  # a command was killed right before it
        return there
    downloads = root / "downloads"
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        plan.folder.mkdir(exist_ok=True)
        with _lock(downloads / f"{source.archive}.lock"):
            earlier = None if plan.local else _earlier(root, plan.address)
            got, checked = _archive(plan, earlier, patience, downloading, log)
            address = str(plan.archive.resolve()) if plan.local else plan.address
            now = datetime.now(UTC).isoformat(timespec="seconds")
            origin = Origin(address, got.sha256, checked, got.size, got.etag, now, source.terms)
            try:
                _unpack_into_place(plan, origin, unpacking)
            except BadArchiveError:
                if not plan.local:  # another try would find it again
                    plan.archive.unlink(missing_ok=True)
                raise
            _remove_archive(plan)
    except OSError as error:
        raise disk_error(error, Path(error.filename) if error.filename else plan.folder) from error
    return origin


def read_origins(folder: Path) -> dict[str, Origin]:
    """What `fetched.json` in a data set's folder says, by kind; empty where there is none that can be read."""
    try:
        content = read_json(folder / RECORD, dict[str, _schema()], "what was fetched is not known")  # type: ignore[misc]
    except DataError:
        return {}
    return {what: Origin(**origin) for what, origin in content.items()}


@cache
def _schema() -> Any:
    """What `fetched.json` says of each archive, and nothing else; made when first needed, as pydantic is slow."""
    from pydantic import ConfigDict, Field, create_model

    names: dict[str, Any] = {name: (kind, ...) for name, kind in get_type_hints(Origin).items()}
    names |= {"sha256": (str, Field(pattern="^[0-9a-f]{64}$")), "size": (int, Field(ge=0))}
    return create_model("Fetched", __config__=ConfigDict(strict=True, extra="forbid"), **names)


def _archive(
    plan: Plan,
    earlier: Origin | None,
    patience: Patience | None,
    progress: Progress | None,
    log: Callable[[str], None] | None,
) -> tuple[Downloaded, Checked]:
    """Have the archive on disk, checked against the sha256 that is known or was recorded at an earlier fetch."""
    source = plan.source
    expected = source.sha256 or (earlier.sha256 if earlier else None)
    checked: Checked = "known" if source.sha256 else "recorded before" if earlier else "recorded now"
    if plan.archive.is_file():
        got = Downloaded(plan.archive.stat().st_size, sha256_of(plan.archive), None, 0)
        if expected in (None, got.sha256):
            check_room(plan.folder, source.unpacked)
            return got, checked
        if plan.local:
            raise DataError(
                f"the archive is another one than expected: sha256 {got.sha256}, {checked}: {expected}",
                where=str(plan.archive),
                fix=f"get it from its official source, {source.url}",
            )
        if log:
            log(f"{plan.archive} is no longer what was fetched: fetching it again")
        plan.archive.unlink()
    said_by = "known" if source.sha256 else f"recorded at an earlier fetch in {plan.folder.parent}/*/{RECORD}"
    got = download(
        plan.address,
        plan.archive,
        limit=SLACK * source.size,
        room=source.unpacked,
        sha256=expected,
        sha256_from=said_by,
        patience=patience,
        progress=progress,
        log=log,
    )
    return got, checked


def _remove_archive(plan: Plan) -> None:
    """Remove what is not needed any more: a part, and an archive that is no other data set's."""
    if not plan.local and plan.archive.is_file():
        Partial(plan.archive).discard()
        if not plan.source.shared:
            plan.archive.unlink(missing_ok=True)


def _unpack_into_place(plan: Plan, origin: Origin, progress: Progress | None) -> None:
    """Unpack, write down where it is from, and let the files take their names: in this order, for kills."""
    source, archive, folder = plan.source, plan.archive, plan.folder
    prefix = f".unpack-{source.what}-"
    for left in folder.glob(f"{prefix}*"):  # of a command that was killed; the lock says that none is at work
        shutil.rmtree(left, ignore_errors=True)
    inside = source.inside if source.what == "features" else ""
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as temporary:
        unpacked = Path(temporary, "all")
        unpacked.mkdir()
        unpack(archive, unpacked, limit=SLACK * source.unpacked, inside=inside, progress=progress)
        found = unpacked / source.inside
        missing = [name for name in source.required if not (found / name).exists()]
        if missing:
            raise BadArchiveError(
                f"the archive is another one than expected: it has no {source.inside}/{missing[0]}",
                where=str(archive),
                fix=f"take the official one, {source.url}",
            )
        if source.what == "features":
            files = _placeable(found, folder)
            _write_origin(folder, source.what, origin)
            for path in files:
                path.replace(folder / path.name)
        else:
            found.rename(Path(temporary, "images"))
            if any(path.is_file() for path in unpacked.rglob("*")) and not (folder / "annotations").exists():
                unpacked.rename(folder / "annotations")
            _write_origin(folder, source.what, origin)
            Path(temporary, "images").rename(folder / "images")


def _placeable(found: Path, folder: Path) -> list[Path]:
    """The files that were unpacked, where none of another content is in their way."""
    files = [path for path in sorted(found.iterdir()) if path.is_file()]
    for path in files:
        there = folder / path.name
        if there.exists() and not filecmp.cmp(path, there, shallow=False):
            raise DataError(
                "a file of this name, but another content than the archive's, is in the way",
                where=str(there),
                fix="move it away, or choose another folder with --data-root",
            )
    return files


def _present(source: Source, folder: Path) -> bool:
    if source.what == "images":
        return (folder / "images").is_dir()
    return all((folder / name).is_file() for name in source.required)


def _earlier(root: Path, address: str) -> Origin | None:
    """What an earlier fetch from this address recorded, for whatever data set."""
    origins = (
        origin for record in sorted(root.glob(f"*/{RECORD}")) for origin in read_origins(record.parent).values()
    )
    return next((origin for origin in origins if origin.url == address), None)


def _write_origin(folder: Path, what: str, origin: Origin) -> None:
    with locked(folder / RECORD, what="this record", wait=10.0):  # features and images have one record
        sweep(folder / RECORD)
        content = {kind: asdict(entry) for kind, entry in (read_origins(folder) | {what: origin}).items()}
        write_whole(folder / RECORD, json.dumps(content, indent=2) + "\n")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise DataError(
            "another command is fetching the same archive", where=str(path), fix="wait until it is done"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _is_url(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in ("http", "https") and bool(parts.netloc)
