"""Runs as packages to and from a folder or a model hub, the hub by its client library (`huggingface_hub`)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from dkgzsl.errors import ConfigError, RunError
from dkgzsl.files import check_manifest, whole_folder
from dkgzsl.inference.hub.package import (
    BESIDES,
    CARD,
    LARGEST_MANIFEST,
    MANIFEST,
    pack,
    read_manifest,
    receive,
    versions_in,
)
from dkgzsl.runs.folder import version_of, versions_of

TOKEN: Final = "HF_TOKEN"
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_OURS: Final = ["*.safetensors", "*.json", "*.jsonl", "*.csv", "*.yaml", "versions/*"]


@runtime_checkable
class HubClient(Protocol):
    """The part of `huggingface_hub.HfApi` that is used."""

    def create_repo(self, repo_id: str, *, private: bool | None = None, exist_ok: bool = False) -> Any:
        """Make a repository, or leave the one that is there."""
        ...

    def upload_folder(
        self, *, repo_id: str, folder_path: str | Path, commit_message: str, delete_patterns: list[str]
    ) -> Any:
        """Upload a folder in one commit; files there that match a pattern and are not in it are deleted."""
        ...

    def repo_info(self, repo_id: str, *, revision: str | None = None, files_metadata: bool = False) -> Any:
        """`sha` of the revision, and `siblings` with `rfilename` and `size`."""
        ...

    def hf_hub_download(
        self, repo_id: str, filename: str, *, revision: str | None = None, local_dir: str | Path | None = None
    ) -> Any:
        """Download one file into a folder; returns its path."""
        ...


@dataclass(frozen=True)
class Moved:
    """What was pushed or pulled.

    Attributes:
        where: the folder, or the repository.
        files: how many files, the manifest not counted.
        size: their bytes.
        manifest: sha256 of the manifest: equal ones are equal runs.
        versions: later versions that are in it, ascending; the run as trained always is.
    """

    where: str
    files: int
    size: int
    manifest: str
    versions: tuple[int, ...] = ()


def push(
    run: Path,
    target: str,
    *,
    private: bool = False,
    license_id: str = "other",
    token_from_env: bool = False,
    overwrite: bool = False,
    version: int | None = None,
    history: bool = False,
    client: HubClient | None = None,
) -> Moved:
    """Push a finished run: its tensors, settings, figures and card, without photos and without local paths.

    The run as it was trained goes, and of its later versions one.

    Args:
        run: the run folder.
        target: a folder (a path, or file://...), or a repository `owner/name` of the hub.
        private: make a new repository private.
        license_id: the hub's name of a licence, for the card.
        token_from_env: take the access token from HF_TOKEN alone, not from a stored login.
        overwrite: replace an earlier push in a folder; a repository keeps its history anyway.
        version: the later version that goes with it, 0 for none (default: the newest).
        history: push all versions up to that one.
        client: of the hub (default: the library's).

    Raises:
        ConfigError: a setting, or the extra `hub` is missing.
        RunError: the run is not finished, or cannot be put there.
    """
    newest, folder = version_of(run, version), _folder(target)
    kept = tuple(one for one in versions_of(run) if one == newest or (history and one <= newest))
    if folder is not None:
        return _push_folder(run, folder, kept, license_id=license_id, overwrite=overwrite)
    with TemporaryDirectory(prefix="dkgzsl-") as temporary:
        packed = Path(temporary)
        digest = pack(run, packed, license_id=license_id, versions=kept)
        hub = client or _client(token_from_env)
        with _hub_errors(target):
            hub.create_repo(target, private=private, exist_ok=True)
            hub.upload_folder(
                repo_id=target,
                folder_path=packed,
                commit_message=f"dkgzsl push, manifest {digest[:16]}",
                delete_patterns=_OURS,
            )
        return _moved(packed, target, digest, kept)


def _push_folder(run: Path, folder: Path, kept: tuple[int, ...], *, license_id: str, overwrite: bool) -> Moved:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not overwrite:
            raise RunError(
                "there is something already",
                where=str(folder),
                fix="name a new folder, or replace an earlier push with --overwrite",
            )
        if not (folder / MANIFEST).is_file() or not (folder / CARD).is_file():
            raise RunError("will not overwrite a folder that is no package of a run", where=str(folder))
    try:
        with whole_folder(folder, replace=overwrite) as draft:
            digest = pack(run, draft, license_id=license_id, versions=kept)
    except OSError as error:
        raise RunError(f"cannot be written: {error.strerror or error}", where=str(folder)) from error
    return _moved(folder, str(folder), digest, kept)


def _moved(packed: Path, where: str, digest: str, versions: tuple[int, ...]) -> Moved:
    files = [path for path in packed.rglob("*") if path.is_file() and path.name != MANIFEST]
    return Moved(where, len(files), sum(path.stat().st_size for path in files), digest, versions)


def pull(source: str, out: Path, *, token_from_env: bool = False, client: HubClient | None = None) -> Moved:
    """Pull a run that `push` wrote; every file is verified against the manifest.

    Args:
        source: as `push` takes it.
        out: the run folder, new or empty.
        token_from_env: as in `push`.
        client: of the hub (default: the library's).

    Raises:
        ConfigError: a setting, or the extra `hub` is missing.
        RunError: there is no such run, or a file is not that of the manifest; nothing is left behind.
    """
    folder = _folder(source)
    if folder is not None:
        return _pull_folder(folder, out)
    hub = client or _client(token_from_env)
    with TemporaryDirectory(prefix="dkgzsl-") as temporary:

        def fetch(name: str) -> Path:
            with _hub_errors(source):
                return Path(hub.hf_hub_download(source, name, revision=revision, local_dir=temporary))

        with _hub_errors(source):
            info = hub.repo_info(source, files_metadata=True)
        revision = info.sha  # one state of the repository, whatever is pushed meanwhile
        there = {one.rfilename: one.size for one in info.siblings}
        return _pull(there, fetch, out, where=source)


def _pull_folder(folder: Path, out: Path) -> Moved:
    if not folder.is_dir():
        raise RunError("there is no such folder", where=str(folder), fix="a repository is named owner/name")
    there: dict[str, int] = {}
    for place, folders, files in os.walk(folder, followlinks=False):
        for name in (*folders, *files):
            path = Path(place) / name
            found = path.lstat()
            if name in folders and not stat.S_ISLNK(found.st_mode):
                continue
            if not stat.S_ISREG(found.st_mode):
                raise RunError(f"{name} is a link or a device, which no push leaves", where=str(folder))
            there[path.relative_to(folder).as_posix()] = found.st_size
    return _pull(there, lambda name: folder / name, out, where=str(folder))


def _pull(there: Mapping[str, int | None], fetch: Any, out: Path, *, where: str) -> Moved:
    if MANIFEST not in there:
        raise RunError(f"there is no {MANIFEST}: this is no package of a run", where=where)
    if (there[MANIFEST] or 0) > LARGEST_MANIFEST:
        raise RunError(f"{MANIFEST} is larger than any", where=where)
    content = fetch(MANIFEST).read_bytes()
    manifest = read_manifest(content, where=where)
    check_manifest(manifest, there, besides=BESIDES, where=where)
    receive(manifest, fetch, out, where=where)
    size = sum(entry.size for entry in manifest.values())
    return Moved(str(out), len(manifest), size, sha256(content).hexdigest(), tuple(versions_in(manifest)))


def _folder(target: str) -> Path | None:
    """The folder that a target names, by its form or because it exists; None for a repository of the hub."""
    if target.startswith("file:"):
        parts = urlsplit(target)
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise ConfigError(f"{target!r} names no folder of this machine", fix="file:///path/to/folder")
        return Path(unquote(parts.path))
    if _REPOSITORY.fullmatch(target) and not Path(target).exists():
        return None
    if "://" in target:
        raise ConfigError(f"{target!r} is neither a folder nor a repository", fix="owner/name, or a path")
    return Path(target).expanduser()


def _client(token_from_env: bool) -> HubClient:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ConfigError(
            "the package huggingface_hub is not installed", fix="pip install 'dkgzsl[hub]'"
        ) from error
    token = None
    if token_from_env:
        token = os.environ.get(TOKEN)
        if not token:
            raise ConfigError(f"the environment variable {TOKEN} holds no token", fix=f"export {TOKEN}=...")
    client: HubClient = HfApi(token=token, library_name="dkgzsl")
    return client


@contextmanager
def _hub_errors(repository: str) -> Iterator[None]:
    """Errors of the hub as one RunError; they are of many kinds and libraries."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        raise RunError(
            f"the hub refuses, or cannot be reached: {type(error).__name__}: {first}",
            where=repository,
            fix="check the name, the token and the network; a folder is written as a path: ./owner/name",
        ) from error
