"""The program of the child process that reads MATLAB, HDF5, Excel and Parquet files (
`dkgzsl.data.formats.untrusted` starts it).

The libraries that read these files are written in C, and one flipped byte can crash them or make them take all
memory: they run here, under limits, and what they give leaves as plain buffers. This file imports nothing of the
package, so that it starts in a fraction of a second.

It reads one JSON object from standard input, and writes to standard output eight bytes with the length of a
header, the header (JSON), then the buffers of the arrays one after the other, in the order of the header.
"""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

_PLAIN: Final = "fiubc"
_FILTERS: Final = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
"""Filters of HDF5 that are part of the library: another one would load code from a plug-in."""
_PIECE: Final = 16 * 2**20
_MOST_NAMES: Final = 10_000
_MOST_CHUNKS: Final = 4_000_000
_READ_THROUGH: Final = 64 * 2**20
"""Compressed data that stay in a file up to this size are read once here; of larger ones the index is checked, and
what is packed by other filters than `_UNPACKED_BY_PYTHON` is read once, whatever its size."""
_UNPACKED_BY_PYTHON: Final = {1, 2}
"""Filters that `dkgzsl.features.hdf5_chunks` takes back itself."""


class Refused(Exception):
    """The file holds something that is not read; the message is for people."""


def main() -> None:
    """Read the request, limit this process, read the file, write what it holds."""
    request = json.loads(sys.stdin.buffer.read())
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        send = _sender(request)
        _limit(request)
        send(request, out)
    except Refused as error:
        _send(out, {"refused": str(error)})
    except MemoryError:
        _send(out, {"refused": f"reading it takes more than the {request['bytes'] >> 20:,} MiB that it may take"})
    except BrokenPipeError:
        return
    except BaseException as error:  # of many kinds: a damaged file can make the libraries raise anything
        _send(out, {"error": f"{str(error) or type(error).__name__}"[:300]})
    out.close()


def _sender(request: Mapping[str, Any]) -> Callable[[Mapping[str, Any], BinaryIO], None]:
    """What reads the file; its libraries are imported here, before memory is limited."""
    if request["kind"] == "excel":
        import openpyxl  # noqa: F401

        return _send_excel
    if request["kind"] == "parquet":
        import pyarrow.parquet  # noqa: F401

        return _send_parquet
    import h5py

    if h5py.is_hdf5(request["path"]):
        return _send_hdf5
    import scipy.io  # noqa: F401

    return _send_mat


def _limit(request: Mapping[str, Any]) -> None:
    """Limit memory and processor time; systems without `resource` have the checks of sizes alone."""
    try:
        import resource
    except ImportError:
        return
    taken = 2**30
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        taken = pages * resource.getpagesize()
    used = math.ceil(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    wanted = {
        resource.RLIMIT_AS: taken + 2**27 + 2 * request["bytes"],
        resource.RLIMIT_CPU: used + request["seconds"],
        resource.RLIMIT_CORE: 0,
    }
    for what, limit in wanted.items():
        hard = resource.getrlimit(what)[1]
        with suppress(OSError, ValueError):
            resource.setrlimit(what, (limit if hard < 0 else min(limit, hard), hard))


def _send(out: BinaryIO, header: Mapping[str, Any]) -> None:
    content = json.dumps(header, default=str).encode()
    out.write(len(content).to_bytes(8, "little") + content)
    out.flush()


def _check_size(name: str, shape: tuple[int, ...], itemsize: int, limit: int) -> int:
    size = math.prod(shape) * itemsize
    if size > limit:
        raise Refused(f"{name} of shape {list(shape)} takes {size >> 20:,} MiB, more than {limit >> 20:,} MiB")
    return size


def _send_mat(request: Mapping[str, Any], out: BinaryIO) -> None:
    from scipy.io import loadmat, whosmat

    listed = whosmat(request["path"])
    names, wanted = [name for name, _, _ in listed], request["names"]
    left = request["bytes"]
    for name, shape, kind in listed:
        if wanted is None or name in wanted:
            left -= _check_size(name, shape, 1 if kind in ("int8", "uint8", "logical") else 8, left)
    found = {} if wanted == [] else loadmat(request["path"], variable_names=wanted)
    texts, arrays = {}, {}
    for name, value in found.items():
        if not isinstance(value, np.ndarray):
            continue
        if value.dtype.kind in "OU":
            content = [_cell(one) for one in value.ravel()] if value.dtype.kind == "O" else value.ravel().tolist()
            shape = [value.size] if value.dtype.kind == "O" else list(value.shape)
            texts[name] = {"shape": shape, "texts": content}
        elif value.dtype.kind in _PLAIN:
            arrays[name] = value
    described = {name: _described(value.dtype, value.shape, _is_turned(value)) for name, value in arrays.items()}
    _send(out, {"names": names, "texts": texts, "arrays": described, "staying": {}})
    for value in arrays.values():
        whole = value.T if _is_turned(value) else value
        for piece in _pieces(np.ascontiguousarray(whole)):
            out.write(piece)


def _is_turned(value: np.ndarray) -> bool:
    return bool(value.flags.f_contiguous and not value.flags.c_contiguous)


def _described(dtype: np.dtype[Any], shape: tuple[int, ...], turned: bool) -> dict[str, Any]:
    return {"dtype": dtype.str, "shape": list(shape), "turned": turned}


def _cell(value: Any) -> str:
    # A cell holds an array that holds the text, sometimes in another cell.
    while isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    return value if isinstance(value, str) else ""


def _pieces(array: np.ndarray) -> Iterator[memoryview]:
    flat = memoryview(array.reshape(-1).view(np.uint8).data if array.size else b"")
    for start in range(0, len(flat), _PIECE):
        yield flat[start : start + _PIECE]


def _send_hdf5(request: Mapping[str, Any], out: BinaryIO) -> None:
    import h5py

    wanted, keep, limit = request["names"], request["staying"], request["bytes"]
    size = Path(request["path"]).stat().st_size
    texts, arrays, staying = {}, {}, {}
    with h5py.File(request["path"], "r") as file:
        names = [name for name in _names(file) if not name.startswith("#")]
        left = limit
        for name in names:
            if wanted is not None and name not in wanted and name not in keep:
                continue
            item = _item(file, name)
            if not isinstance(item, h5py.Dataset) or item.shape is None:
                continue
            used = _check_dataset(name, item, limit if name in keep else left, size)
            if name in keep:
                staying[name] = _staying(name, item, size)
                continue
            left -= used
            if item.dtype.kind in _PLAIN:
                arrays[name] = item
            elif (content := _texts(file, name, item, left, size)) is not None:
                texts[name] = content
        described = {name: _described(item.dtype, item.shape, False) for name, item in arrays.items()}
        _send(out, {"hdf5": True, "names": names, "texts": texts, "arrays": described, "staying": staying})
        for item in arrays.values():
            for block in _blocks(item):
                for piece in _pieces(np.ascontiguousarray(block)):
                    out.write(piece)


def _names(file: Any) -> list[str]:
    if len(file) > _MOST_NAMES:
        raise Refused(f"it has {len(file):,} names, more than {_MOST_NAMES:,}")
    return list(file)


def _item(file: Any, name: str) -> Any:
    import h5py

    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise Refused(
            f"{name} is a link to {getattr(link, 'filename', None) or 'another place'}: links are not read"
        )
    return file[name]


def _check_dataset(name: str, item: Any, limit: int, file_size: int) -> int:
    """That a data set lies in this file, in a form that the library reads by itself, and is not too large."""
    import h5py

    made = item.id.get_create_plist()
    layout = made.get_layout()
    if made.get_external_count() or layout == h5py.h5d.VIRTUAL:
        raise Refused(f"{name} lies in another file: external storage is not read")
    for at in range(made.get_nfilters()):
        if (number := made.get_filter(at)[0]) not in _FILTERS:
            raise Refused(f"{name} is stored by the filter {number}; read are {', '.join(_FILTERS.values())}")
    used = _check_size(name, item.shape, item.dtype.itemsize, limit)
    if layout == h5py.h5d.CHUNKED:
        _check_size(f"a chunk of {name}", item.chunks, item.dtype.itemsize, limit)
        _check_chunks(name, item, file_size)
    return used


def _check_chunks(name: str, item: Any, file_size: int) -> None:
    number = item.id.get_num_chunks()
    if number > _MOST_CHUNKS:
        raise Refused(f"{name} has {number:,} chunks, more than {_MOST_CHUNKS:,}")

    def check(info: Any) -> bool | None:
        lies_outside = info.byte_offset is None or info.byte_offset + info.size > file_size
        return True if lies_outside else None  # anything but None ends the iteration

    if hasattr(item.id, "chunk_iter") and number and item.id.chunk_iter(check):
        raise Refused(f"a chunk of {name} lies beyond the end of the file")


def _staying(name: str, item: Any, file_size: int) -> dict[str, Any]:
    """What is needed to map or read the data set where it lies."""
    offset = item.id.get_offset()
    if offset is not None and offset + item.nbytes > file_size:
        raise Refused(f"{name} ends beyond the end of the file: it was cut off")
    made = item.id.get_create_plist()
    ours = all(made.get_filter(at)[0] in _UNPACKED_BY_PYTHON for at in range(made.get_nfilters()))
    if offset is None and item.dtype.kind in _PLAIN and not (ours and file_size > _READ_THROUGH):
        for _ in _blocks(item):
            pass
    return {"dtype": item.dtype.str, "shape": list(item.shape), "offset": offset}


def _blocks(item: Any) -> Iterator[np.ndarray]:
    if not item.shape or not item.size:
        yield np.asarray(item[()])
        return
    row = max(1, item.nbytes // item.shape[0])
    step = max(1, _PIECE // row)
    for start in range(0, item.shape[0], step):
        yield np.asarray(item[start : start + step])


def _texts(file: Any, name: str, item: Any, left: int, size: int) -> dict[str, Any] | None:
    """Texts of fixed or any length, or MATLAB's cells of text: references to arrays of character codes."""
    import h5py

    if h5py.check_dtype(ref=item.dtype) is not None:
        found = []
        for reference in np.ravel(item[()]):
            target = file[reference]
            left -= _check_dataset(f"a cell of {name}", target, left, size)
            found.append("".join(map(chr, np.ravel(target[()]))) if target.dtype.kind in "iu" else "")
        return {"shape": [len(found)], "texts": found}
    if item.dtype.kind != "S" and h5py.check_string_dtype(item.dtype) is None:
        return None
    found = [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in np.ravel(item[()])]
    return {"shape": list(item.shape), "texts": found}


def _send_excel(request: Mapping[str, Any], out: BinaryIO) -> None:
    from openpyxl import load_workbook

    warnings.simplefilter("ignore")  # of what it leaves out, such as the colours of cells
    book, left, sheets = load_workbook(request["path"], read_only=True, data_only=True), request["cells"], []
    for sheet in book.worksheets:
        rows = []
        for row in sheet.iter_rows(values_only=True):
            left -= 1 + len(row)
            if left < 0:
                raise Refused(f"it has more than {request['cells']:,} cells")
            rows.append(row)
        sheets.append([sheet.title, rows])
    _send(out, {"sheets": sheets})


def _send_parquet(request: Mapping[str, Any], out: BinaryIO) -> None:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    pyarrow.set_cpu_count(1)
    file = ParquetFile(request["path"])
    rows, columns = file.metadata.num_rows, file.metadata.num_columns
    if rows * max(1, columns) > request["cells"]:
        raise Refused(f"it has {rows:,} rows of {columns:,} columns, more than {request['cells']:,} cells")
    table = file.read(use_threads=False)
    index = []
    with suppress(ValueError, TypeError, AttributeError):  # what pandas has noted there may be damaged
        index = list((table.schema.pandas_metadata or {}).get("index_columns", []))
    arrays, lists = {}, {}
    for at, column in enumerate(table.columns):
        kind = column.type
        if (pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)) and not column.null_count:
            arrays[str(at)] = column.to_numpy()
        else:
            lists[str(at)] = column.to_pylist()
    described = {at: _described(values.dtype, values.shape, False) for at, values in arrays.items()}
    names = [str(name) for name in table.column_names]
    _send(out, {"names": names, "index": index, "lists": lists, "arrays": described})
    for values in arrays.values():
        for piece in _pieces(np.ascontiguousarray(values)):
            out.write(piece)


if __name__ == "__main__":
    main()
