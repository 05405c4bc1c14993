"""Ways to damage a file: bytes of any file, values of JSON and YAML, arrays of NumPy's and safetensors files."""

import io
import json
import zipfile

import numpy as np
from safetensors.numpy import load, save

HUGE = (0xFFFFFFFF, 0x7FFFFFFF, 2**62, 2**63 - 1, 2**64 - 1)
STRANGE = (
    None, True, -1, 0, 10**30, 1e400, float("nan"), "", "x", "\ud800", "9" * 5000, [], {}, [[[]]], {"a": 1}, "\0",
    "../x", 2.5, "x" * 300, {"": None}, [None], 10**9,
)  # fmt: skip
TEXTS = (
    b"!!int x", b"[" * 3000, b"1:30:00:00", b"\xff\xfe\x00", b"\x00", b"!!timestamp x", b"&a [*a]", b"9" * 5000,
    b'"',
    b"{" * 3000, b",,,,", b"\xed\xa0\x80", b"!!python/object:os.system x", b"- ? :", b"\n\n", b"1e999", b"nan",
)  # fmt: skip


def damaged(content: bytes, name: str, rng: np.random.Generator) -> bytes:
    """The content of a file, damaged in one way that `rng` draws.

    Args:
        content: of the file, whole.
        name: of the file; by its ending the values in it can be damaged, too.
        rng: draws the way and the place.
    """
    ways = [*_BYTES, *_BY_SUFFIX.get(name.rpartition(".")[2], ())]
    weights = np.array([1.0] * len(_BYTES) + [4.0] * (len(ways) - len(_BYTES)))
    return ways[rng.choice(len(ways), p=weights / weights.sum())](content, rng)


def _place(content, rng):
    return int(rng.integers(0, max(1, len(content))))


def _flip(content, rng):
    changed = bytearray(content)
    for _ in range(int(rng.choice([1, 1, 1, 2, 8]))):
        # headers are short, and most that matters stands in them
        end = len(content) if rng.random() < 0.5 else min(len(content), 512)
        if end:
            changed[int(rng.integers(0, end))] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def _cut(content, rng):
    return content[: _place(content, rng)]


def _empty(*_):
    return b""


def _longer(content, rng):
    return content + rng.bytes(int(rng.integers(1, 100)))


def _without_span(content, rng):
    start = _place(content, rng)
    return content[:start] + content[start + int(rng.integers(1, 64)) :]


def _zeros(content, rng):
    start, size = _place(content, rng), int(rng.integers(1, 64))
    return content[:start] + bytes(min(size, len(content) - start)) + content[start + size :]


def _huge(content, rng):
    start = _place(content, rng) // 4 * 4
    size = int(rng.choice([4, 8]))
    number = (int(HUGE[rng.integers(len(HUGE))]) % 2 ** (8 * size)).to_bytes(size, "little")
    return content[:start] + number + content[start + size :]


def _text(content, rng):
    start = _place(content, rng)
    return content[:start] + TEXTS[rng.integers(len(TEXTS))] + content[start:]


def _noise(_, rng):
    return rng.bytes(int(rng.integers(1, 2000)))


_BYTES = (_flip, _flip, _flip, _flip, _cut, _cut, _empty, _longer, _without_span, _zeros, _huge, _text, _noise)


def _json(content, rng):
    return json.dumps(_changed(json.loads(content), rng)).encode()


def _json_line(content, rng):
    lines = content.split(b"\n")
    at = int(rng.integers(0, max(1, len(lines) - 1)))
    lines[at] = _json(lines[at], rng)
    return b"\n".join(lines)


def _yaml(content, rng):
    import yaml

    return yaml.safe_dump(_changed(yaml.safe_load(content), rng), allow_unicode=False).encode()


def _changed(value, rng):
    """The same value with one place changed: another value, a key misspelt or left out."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = list(value)[rng.integers(len(value))]
        way = rng.random()
        if way < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if way < 0.2:
            return {(f"{k}x" if k == key else k): v for k, v in value.items()}
        return {k: _changed(v, rng) if k == key else v for k, v in value.items()}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = int(rng.integers(len(value)))
        way = rng.random()
        if way < 0.2:
            return value[:at]
        return [_changed(one, rng) if n == at else one for n, one in enumerate(value)]
    return STRANGE[rng.integers(len(STRANGE))]


def _array(array, rng):
    """An array of another shape or type, or with other values."""
    ways = (
        lambda a: a.reshape(-1),
        lambda a: a[None],
        lambda a: a[..., :-1] if a.ndim else a,
        lambda a: a[:0] if a.ndim else a,
        lambda a: a.astype(np.int64) if a.dtype.kind in "fiub" else a,
        lambda a: a.astype(np.float64) * np.nan if a.dtype.kind in "fiub" else a,
        lambda a: a.astype(np.float64) * 1e30 if a.dtype.kind in "fiub" else a,
        lambda a: -a.astype(np.int64) if a.dtype.kind in "fiub" else a,
        lambda a: a.T,
        lambda a: np.zeros((0,), a.dtype),
    )
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(ways[rng.integers(len(ways))](array))


def _npy(content, rng):
    out = io.BytesIO()
    np.save(out, _array(np.load(io.BytesIO(content)), rng))
    return out.getvalue()


def _npz(content, rng):
    with np.load(io.BytesIO(content)) as file:
        arrays = {name: file[name] for name in file.files}
    name = list(arrays)[rng.integers(len(arrays))]
    if rng.random() < 0.2:
        del arrays[name]
    else:
        arrays[name] = _array(arrays[name], rng)
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def _safetensors(content, rng):
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    tensors = load(content)
    name = list(tensors)[rng.integers(len(tensors))] if tensors else None
    way = rng.random()
    if way < 0.3 or name is None:
        metadata = {"values": json.dumps(_changed(json.loads(metadata.get("values", "{}")), rng))}
    elif way < 0.4:
        del tensors[name]
    else:
        tensors[name] = _array(tensors[name], rng)
    return save(tensors, metadata)


def _mat(content, rng):
    from scipy.io import loadmat, savemat

    if not content.startswith(b"MATLAB 5"):
        return _flip(content, rng)
    held = {k: v for k, v in loadmat(io.BytesIO(content)).items() if not k.startswith("__")}
    name = list(held)[rng.integers(len(held))]
    strange = (
        np.array("text"),
        np.zeros((0, 0)),
        {"a": 1},
        np.ones((2, 2, 2)),
        np.array([[1 + 2j]]),
        np.zeros((40000, 2000)),
    )
    if rng.random() < 0.5:
        held[name] = strange[rng.integers(len(strange))]
    elif held[name].dtype.kind in "fiub":
        held[name] = _array(held[name], rng)
    out = io.BytesIO()
    savemat(out, held, do_compression=True)
    return out.getvalue()


def _hdf5(content, rng):
    import h5py

    out = io.BytesIO(content)
    with h5py.File(out, "r+") as file:
        name = list(file)[rng.integers(len(file))]
        old = np.asarray(file[name][()]) if isinstance(file[name], h5py.Dataset) else np.zeros(3)
        del file[name]
        way = int(rng.integers(0, 9))
        if way == 0:
            file[name] = h5py.ExternalLink("/etc/passwd", "/x")
        elif way == 1:
            file[name] = h5py.SoftLink(f"/{name}")
        elif way == 2:
            file.create_dataset(name, (16,), "u1", external=[("/etc/passwd", 0, 16)])
        elif way == 3:
            file.create_dataset(name, (40_000, 40_000), "f8", chunks=(100, 100), compression="gzip")
        elif way == 4:
            file.create_group(name)
        elif way == 5:
            file[name] = "text"
        elif way == 6:
            layout = h5py.VirtualLayout((16,), "u1")
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", (16,))
            file.create_virtual_dataset(name, layout)
        elif old.dtype.kind in "fiub":
            file[name] = _array(old, rng)
    return out.getvalue()


def _zip(content, rng):
    """A member of a zip file, as Excel's files are, damaged."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as file, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as copy:
        names = file.namelist()
        chosen = names[rng.integers(len(names))]
        for name in names:
            held = file.read(name)
            copy.writestr(name, _BYTES[rng.integers(len(_BYTES))](held, rng) if name == chosen else held)
    return out.getvalue()


_BY_SUFFIX = {
    "json": (_json, _json),
    "jsonl": (_json_line, _json_line),
    "yaml": (_yaml,),
    "npy": (_npy,),
    "npz": (_npz,),
    "safetensors": (_safetensors, _safetensors),
    "mat": (_mat,),
    "hdf5": (_hdf5,),
    "xlsx": (_zip,),
}
