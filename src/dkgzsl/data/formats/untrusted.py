"""MATLAB, HDF5, Excel and Parquet files read in a child process, so that a damaged one harms no other process.

The child (`child.py`) may take the memory that `dkgzsl.reading.most_bytes` says, 10 s of processor time, and 1 s
more for each 4 MiB of the file. It gives plain numbers and texts, never objects; what it gives is checked again
here. Links, external and virtual data sets, and filters that are no part of HDF5 are refused: a file says nothing
about other files.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import numpy as np

from dkgzsl.errors import DataError
from dkgzsl.reading import BYTES, most_bytes, reading

T = TypeVar("T")

_SECONDS: Final = 10
_BYTES_A_SECOND: Final = 4 * 2**20
_WAIT: Final = 20
"""The clock on the wall may show so many times what the processor may take: disks and busy machines are slow."""
_HEADER: Final = 2**31
_CELLS: Final = 2_000_000
_FIX: Final = "save it as plain arrays in the file itself, or as a smaller table; docs/inputs.md has the limits"
_KINDS: Final = "fiubc"
_PROGRAM: Final = Path(__file__).with_name("child.py")


@dataclass(frozen=True)
class Staying:
    """An HDF5 data set that stays in its file.

    Attributes:
        shape: of the array.
        dtype: of its entries.
        offset: where it begins in the file, in bytes; None where it does not lie in one piece.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        is_hdf5: whether it is an HDF5 file, in which MATLAB's arrays have their axes reversed.
        names: of all variables, also of those that were not read.
        arrays: those that were read: numbers, and texts as arrays of str.
        staying: those that stay in the file.
    """

    is_hdf5: bool
    names: tuple[str, ...]
    arrays: Mapping[str, np.ndarray]
    staying: Mapping[str, Staying] = field(default_factory=dict)


def read_untrusted(
    path: Path, *, kind: str, names: Collection[str] | None = None, staying: Collection[str] = ()
) -> Content:
    """Read variables of a MATLAB or HDF5 file in a child process.

    Args:
        path: the file.
        kind: what it should be, for messages.
        names: variables to read (default: all); those that the file lacks are left out.
        staying: data sets of an HDF5 file that stay there.

    Raises:
        DataError: there is no such file, or it is damaged, too large for what it holds, or refers to other files.
    """
    with reading("the file cannot be reached", path):
        size = path.stat().st_size if path.is_file() else None
    if size is None:
        raise DataError(f"no file {path.name}", where=str(path.parent))
    wanted = None if names is None else sorted(names)
    child = _Child({"kind": "arrays", "names": wanted, "staying": sorted(staying)}, path, size)
    return _or_error(lambda: child.run(child.content), f"{path.name} cannot be read as {kind}", path)


def read_workbook(path: Path) -> list[tuple[str, list[list[Any]]]]:
    """Title and rows of each sheet of an Excel file, read in a child process.

    Cells hold text, numbers, truth values or nothing; dates are texts.

    Raises:
        DataError: the file is damaged, or has more cells than 2 million and one for each of its bytes.
    """
    child = _Child({"kind": "excel"}, path, _size_of(path))
    sheets = _or_error(lambda: child.run(child.values), "cannot read the Excel table", path)["sheets"]
    return [(str(title), rows) for title, rows in sheets]


def read_parquet(path: Path) -> tuple[list[str], list[Any], list[list[Any]]]:
    """Names of the columns of a Parquet file, those that pandas made of an index, and the columns' values.

    Raises:
        DataError: the file is damaged, or has more cells than 2 million and one for each of its bytes.
    """
    child = _Child({"kind": "parquet"}, path, _size_of(path))
    found = _or_error(lambda: child.run(child.values), "cannot read the Parquet table", path)
    columns = {**found["lists"], **{at: values.tolist() for at, values in found["arrays"].items()}}
    return found["names"], found["index"], [columns[str(at)] for at in range(len(found["names"]))]


def _size_of(path: Path) -> int:
    with reading("cannot read the table", path):
        return path.stat().st_size


def _or_error(read: Callable[[], T], what: str, path: Path) -> T:
    try:
        return read()
    except _Failure as error:
        again = "fetch or save the file again; it may have been cut off"
        raise DataError(f"{what}: {error}", where=str(path), fix=again if error.damaged else _FIX) from error


class _Failure(Exception):
    def __init__(self, why: str, *, damaged: bool = True) -> None:
        super().__init__(why)
        self.damaged = damaged


class _Child:
    """One child process that reads one file."""

    def __init__(self, request: Mapping[str, Any], path: Path, size: int) -> None:
        self._limit, self._seconds = most_bytes(size), _SECONDS + size // _BYTES_A_SECOND
        limits = {"bytes": self._limit, "seconds": self._seconds, "cells": _CELLS + size}
        self._request = {**request, **limits, "path": os.fsdecode(path.absolute())}

    def run(self, take: Callable[[IO[bytes]], T]) -> T:
        """Start the child, take what it writes, and end it."""
        path = os.pathsep.join(entry for entry in sys.path if entry)
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        try:
            child = subprocess.Popen(
                [sys.executable, "-P", os.fspath(_PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={
                    **os.environ,
                    **single,
                    "PYTHONPATH": path,
                    "PYTHONFAULTHANDLER": "",
                    "HDF5_PLUGIN_PATH": os.devnull,
                    "ARROW_DEFAULT_MEMORY_POOL": "system",
                },
            )
        except OSError as error:
            raise _Failure(f"the process that reads it cannot start: {error.strerror}", damaged=False) from error
        clock = threading.Timer(_WAIT * self._seconds, child.kill)
        clock.daemon = True
        clock.start()
        assert child.stdin is not None, "it was asked for"
        assert child.stdout is not None, "it was asked for"
        try:
            with child.stdin as stdin:
                stdin.write(json.dumps(self._request).encode())
            return take(child.stdout)
        except (EOFError, BrokenPipeError) as error:
            child.wait()
            raise _Failure(_end_of(child.returncode, self._seconds)) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _Failure("what it holds makes no sense") from error
        finally:
            clock.cancel()
            child.kill()
            child.stdout.close()
            child.wait()

    def _header(self, stream: IO[bytes]) -> dict[str, Any]:
        length = int.from_bytes(_exactly(stream, 8), "little")
        if length > min(_HEADER, BYTES + 8 * self._limit):
            raise ValueError("the header is too long")
        content = _exactly(stream, length)
        header: dict[str, Any] = json.loads(content)
        if b"\\ud" in content:  # half of a surrogate pair, which no terminal shows
            header = json.loads(json.dumps(header, ensure_ascii=False).encode("utf-8", "replace"))
        if "refused" in header:
            raise _Failure(str(header["refused"]), damaged=False)
        if "error" in header:
            raise _Failure(str(header["error"]))
        return header

    def values(self, stream: IO[bytes]) -> dict[str, Any]:
        """The header, with arrays in place of their descriptions."""
        header = self._header(stream)
        return {**header, "arrays": self._arrays(stream, header)}

    def content(self, stream: IO[bytes]) -> Content:
        """Arrays by name, and those that stay in the file."""
        header = self._header(stream)
        texts = {str(name): _texts(one) for name, one in header["texts"].items()}
        staying = {name: Staying(*_form(one)[::-1], one["offset"]) for name, one in header["staying"].items()}
        names = tuple(map(str, header["names"]))
        return Content(header.get("hdf5") is True, names, texts | self._arrays(stream, header), staying)

    def _arrays(self, stream: IO[bytes], header: Mapping[str, Any]) -> dict[str, np.ndarray]:
        arrays, left = {}, self._limit
        for name, one in header.get("arrays", {}).items():
            dtype, shape = _form(one)
            left -= math.prod(shape) * dtype.itemsize
            if left < 0:
                raise ValueError("it is larger than it may be")
            arrays[str(name)] = _array(stream, dtype, shape, turned=one["turned"] is True)
        return arrays


def _end_of(code: int | None, seconds: int) -> str:
    """What ended the child, in words."""
    if code is not None and code < 0:
        signals = {24: f"it takes more than {seconds} s", 9: "it takes too much time or memory"}
        return signals.get(-code, f"the library that reads it crashed (signal {-code})")
    return f"the library that reads it ended (exit code {code})"


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise EOFError
    return content


def _form(described: Mapping[str, Any]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    dtype, shape = np.dtype(str(described["dtype"])), tuple(described["shape"])
    if not all(type(side) is int and side >= 0 for side in shape) or len(shape) > 32:
        raise ValueError("no shape")
    return dtype, shape


def _texts(described: Mapping[str, Any]) -> np.ndarray:
    texts = [str(one).encode("utf-8", "replace").decode() for one in described["texts"]]
    return np.array(texts, dtype=str).reshape(_shape_of(described["shape"], len(texts)))


def _shape_of(shape: Any, entries: int) -> tuple[int, ...]:
    found = tuple(int(side) for side in shape)
    if math.prod(found) != entries:
        raise ValueError("no shape")
    return found


def _array(stream: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...], *, turned: bool) -> np.ndarray:
    """The next array of the stream; one that is turned lies there with its axes reversed."""
    if dtype.kind not in _KINDS:
        raise ValueError("no numbers")
    found: np.ndarray = np.empty(shape[::-1] if turned else shape, dtype)
    room = memoryview(found.reshape(-1).view(np.uint8).data) if found.size else memoryview(bytearray())
    while len(room):
        count = stream.readinto(room)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        room = room[count:]
    return found.T if turned else found
