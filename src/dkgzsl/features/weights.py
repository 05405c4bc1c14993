"""Weights of a published model from a file, without executing any code in it."""

from __future__ import annotations

import socket
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor, nn

from dkgzsl.errors import DataError
from dkgzsl.files import home_folder, sha256_of

CLIP = "clip:"
"""What the names of CLIP models begin with, as backbones and as encoders of text (`dkgzsl.features.clip`)."""


@contextmanager
def hub_without_waiting() -> Iterator[None]:
    """In this context, the model hub's library only uses its cache where the hub cannot be reached.

    Otherwise it asks for each file six times, up to a minute in all, before it uses the cache. Behind a proxy
    nothing is changed: names need not resolve there.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        if not getproxies():
            constants.HF_HUB_OFFLINE = before or not _resolves(urlsplit(constants.ENDPOINT).hostname or "")
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


_UNREACHED = {
    "ConnectionError", "ConnectError", "ConnectTimeout", "LocalEntryNotFoundError", "OfflineModeIsEnabled",
    "ProxyError", "ReadTimeout", "Timeout", "URLError", "gaierror",
}  # fmt: skip


def why_not_fetched(error: BaseException) -> str:
    """Why a published model cannot be fetched, in words: libraries name the reason by classes of their own."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    if any(kind.__name__ in _UNREACHED for one in chain for kind in type(one).__mro__):
        return "the network or the model hub cannot be reached"
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return text[:200] or f"an error of the kind {type(error).__name__}"


_WRAPPERS = ("state_dict", "model", "model_state_dict")


def load_weights(model: nn.Module, path: Path, *, head: tuple[str, ...]) -> dict[str, Any]:
    """Load weights from a file into `model`, strictly but for the classifier `head`; half precision is cast.

    Args:
        model: takes the weights.
        path: `.safetensors`, or a PyTorch file, which is read without executing any code in it.
        head: names of the modules that the file may have and the model need not.

    Returns:
        What is recorded: source, name and absolute path of the file, its sha256.

    Raises:
        DataError: the file is missing, not of these kinds, or its tensors do not fit the model.
    """
    state = _without_prefix(_read(path))
    state = {name: tensor for name, tensor in state.items() if not name.startswith(tuple(f"{h}." for h in head))}
    wanted = model.state_dict()
    # Batch normalisation counts batches for training alone; files older than the counter lack it.
    needed = {name for name in wanted if not name.endswith("num_batches_tracked")}
    missing, unexpected = sorted(needed - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = [
        f"{name} is {list(state[name].shape)}, not {list(wanted[name].shape)}"
        for name in sorted(wanted.keys() & state.keys())
        if state[name].shape != wanted[name].shape
    ]
    if missing or unexpected or shapes:
        parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
        raise DataError(
            "the weights do not fit the backbone; " + "; ".join(f"{what}: {_few(n)}" for what, n in parts if n),
            where=str(path),
            fix="name the backbone that the weights were made with (--backbone)",
        )
    model.load_state_dict({**wanted, **{n: t.to(wanted[n].dtype) for n, t in state.items()}}, strict=True)
    return {"source": "file", "file": path.name, "path": str(path.resolve()), "sha256": sha256_of(path)}


def weights_folder() -> Path:
    """Where files of weights are also looked for: `weights` in `home_folder`."""
    return home_folder() / "weights"


def recorded_weights(record: Mapping[str, Any]) -> Path:
    """The file that `load_weights` recorded, where it lay then or in `weights_folder`; its sha256 is checked.

    Args:
        record: what `load_weights` returned; one of an older version has no path.

    Raises:
        DataError: it is at neither place any more, or another file is.
    """
    name, digest, path = str(record["file"]), str(record["sha256"]), record.get("path")
    candidates: list[Path] = [*([Path(path)] if path else []), weights_folder() / name]
    there = [one for one in candidates if one.is_file()]
    for candidate in there:
        if sha256_of(candidate) == digest:
            return candidate
    where = f"which is not at {path} any more" if path else "and where it lies is not recorded"
    if there:
        where = f"and {there[0]} is another file now"
    raise DataError(
        f"the backbone's weights came from the file {name}, {where}",
        fix=f"name it with --weights FILE, or put it into {weights_folder()} (sha256 begins with {digest[:16]})",
    )


def weights_in_words(record: Mapping[str, Any]) -> str | None:
    """Where somebody else gets the weights that features were made with; None where nothing is learned.

    Args:
        record: of the weights, as a backbone has it.
    """
    source, digest = record.get("source"), str(record.get("sha256", ""))[:16]
    if source == "file":
        return (
            f"{record['file']} (sha256 {digest}...) is not included: hand the file over, too. predict finds it in "
            "the folder of weights that dkgzsl doctor names, or by --weights FILE"
        )
    if source == "random":
        return f"drawn by the seed {record.get('seed')}, made again where they are needed"
    if source in (None, "unknown"):
        return None
    return f"{record.get('model', '')} of {source} (sha256 {digest}...), fetched once where they are needed"


def state_sha256(model: nn.Module) -> str:
    """sha256 over names and values of a model's weights, for weights that the user gave no file of."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise DataError("no such file of weights", where=str(path))
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        _check_pytorch(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: unpickling, archive, header
        raise DataError(
            f"cannot read the weights: {str(error).splitlines()[0] if str(error) else repr(error)}",
            where=str(path),
            fix="give a safetensors file, or a PyTorch file that holds nothing but tensors",
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise DataError("the file holds no mapping from names to tensors", where=str(path))
    return content


def _check_pytorch(path: Path) -> None:
    """That a PyTorch file is no archive which unpacks to more than it is.

    It is read in this process: `weights_only` builds tensors and plain values alone (from PyTorch 2.6 on, which
    this package needs), and what is left, sizes, is checked here. PyTorch packs nothing, so what is packed is none
    of its files. Files of before PyTorch 1.6 are no archives.

    Raises:
        ValueError: it is packed, or says that it is larger than it is.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is a compressed archive, and PyTorch writes none")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("its parts are larger than the file: it is damaged")


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # nn.DataParallel puts `module.` before every name
    prefix = "module." if state and all(name.startswith("module.") for name in state) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
