"""Feature stores by URL: a local folder, an in-memory file system, and S3 by moto's server on loopback."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dkgzsl.data.load import load_dataset
from dkgzsl.errors import ConfigError, DataError
from dkgzsl.features import store_url
from dkgzsl.features.store import INDEX, RECORD, TOKENS, open_store
from dkgzsl.features.store_url import has_store, is_url, local_folder, local_store, send_store
from dkgzsl.features.store_writer import StoreWriter

fsspec = pytest.importorskip("fsspec", reason="the extra `cluster` is not installed")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DKGZSL_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def s3():
    """A bucket on a server of this machine."""
    pytest.importorskip("s3fs", reason="the extra `cluster` is not installed")
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer(
        ip_address="127.0.0.1", port=0, verbose=False
    )
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "none"),
            ("AWS_SECRET_ACCESS_KEY", "none"),
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket/features/store"
    server.stop()


@pytest.fixture(params=["file", "memory", "s3"])
def url(request, tmp_path):
    if request.param == "s3":
        place = request.getfixturevalue("s3")
    else:
        place = f"file://{tmp_path}/far/store" if request.param == "file" else "memory://far/store"
    yield place
    files, root = fsspec.core.url_to_fs(place)
    if files.exists(root):
        files.rm(root, recursive=True)


def write_store(folder: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    tokens = rng.random((6, 3, 4)).astype(np.float16)
    record = {"class_names": ["cat", "dog"], "grid": [1, 2], "batch_size": 2, "seed": seed}
    paths, labels = [f"{k}.jpg" for k in range(6)], [0, 1] * 3
    with StoreWriter(folder, record=record, paths=paths, labels=labels, tokens=3, channels=4) as writer:
        for start in range(0, 6, 2):
            writer.append(tokens[start : start + 2], [("0" * 64, None)] * 2)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (TOKENS, INDEX, RECORD)}


def test_a_store_comes_back_as_it_was_sent(url, tmp_path) -> None:
    made = write_store(tmp_path / "made")
    assert not has_store(url)
    assert send_store(made, url)
    assert has_store(url)
    assert not send_store(made, url)  # the same is there
    found = local_store(url)
    assert found.name == "store"
    assert files_of(found) == files_of(made)
    assert sorted(one.name for one in found.iterdir()) == sorted((TOKENS, INDEX, RECORD))
    np.testing.assert_array_equal(open_store(found).tokens[:], np.load(made / TOKENS))


def test_it_is_copied_once_and_again_when_it_has_changed(url, tmp_path, monkeypatch) -> None:
    send_store(write_store(tmp_path / "one"), url)
    local_store(url)
    copied = []
    real = store_url._copy
    monkeypatch.setattr(store_url, "_copy", lambda *given: (copied.append(given[1]), real(*given)))
    local_store(url)
    assert copied == []
    send_store(write_store(tmp_path / "two", seed=1), url)
    assert files_of(local_store(url)) == files_of(tmp_path / "two")
    assert len(copied) == 2


def test_a_copy_that_broke_off_goes_on(url, tmp_path, monkeypatch) -> None:
    made = write_store(tmp_path / "made")
    send_store(made, url)
    monkeypatch.setattr(store_url, "_BLOCK", 50)
    blocks = []
    real = store_url._copy

    def broken(files, source, target) -> None:
        class Cut:
            def size(self, path):
                return files.size(path)

            def cat_file(self, path, start, end):
                if len(blocks) == 3:
                    blocks.append(None)
                    raise OSError("the line is down")
                blocks.append((start, end))
                return files.cat_file(path, start=start, end=end)

        real(Cut(), source, target)

    monkeypatch.setattr(store_url, "_copy", broken)
    with pytest.raises(DataError, match="the line is down"):
        local_store(url)
    with pytest.raises(DataError):
        open_store(local_folder(url))  # what is not whole is no store
    assert files_of(local_store(url)) == files_of(made)
    assert blocks[4] == (150, 200)


def test_a_store_without_its_record_is_none(url, tmp_path) -> None:
    send_store(write_store(tmp_path / "made"), url)
    files, root = fsspec.core.url_to_fs(url)
    files.rm_file(f"{root}/{RECORD}")
    with pytest.raises(DataError, match="there is no feature store"):
        local_store(url)


def test_a_store_that_was_sent_half_way_is_none(url, tmp_path, monkeypatch) -> None:
    """Neither the new one nor the older one, whose other files have gone."""
    send_store(write_store(tmp_path / "one"), url)
    files = fsspec.core.url_to_fs(url)[0]  # one for all of this process
    real = files.put_file

    def put_file(source, target):
        if target.endswith(INDEX):
            raise OSError("the line is down")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files, "put_file", put_file)
        with pytest.raises(DataError, match="the line is down"):
            send_store(write_store(tmp_path / "two", seed=1), url)
    assert not has_store(url)
    assert send_store(tmp_path / "two", url)
    assert files_of(local_store(url)) == files_of(tmp_path / "two")


def test_damage_on_the_way_is_found_when_a_row_is_read(url, tmp_path) -> None:
    made = write_store(tmp_path / "made")
    content = bytearray((made / TOKENS).read_bytes())
    content[-1] ^= 1
    (made / TOKENS).write_bytes(content)
    send_store(made, url)
    store = open_store(local_store(url))
    assert store.tokens[0].shape == (3, 4)
    with pytest.raises(DataError, match="damaged"):
        store.tokens[5]


def test_places_that_cannot_be_reached(monkeypatch) -> None:
    with pytest.raises(DataError, match="cannot reach the feature store: Protocol not known"):
        local_store("nowhere://bucket/store")
    assert [is_url(place) for place in ("s3://a/b", "a/b", Path("a"), None)] == [True, False, False, False]
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(ConfigError, match="fsspec"):
        local_store("s3://bucket/store")


def test_extract_by_url(tmp_path, capsys, monkeypatch) -> None:
    """What is sent is what a folder would have; the same command again has nothing to do."""
    pytest.importorskip("timm", reason="the extra `images` is not installed")
    from PIL import Image

    from dkgzsl.cli import extract as verb
    from dkgzsl.features import backbones
    from dkgzsl.features.extraction import ImageList

    root = tmp_path / "photos"
    root.mkdir()
    rng = np.random.default_rng(0)
    for k in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(root / f"{k}.png")
    images = ImageList("photos", root, [f"{k}.png" for k in range(4)], [0, 1, 0, 1], ["cat", "dog"])
    build = backbones.build_backbone
    monkeypatch.setattr("dkgzsl.data.load.list_images", lambda *_, **__: images)
    monkeypatch.setattr(
        "dkgzsl.features.backbones.build_backbone", lambda *_, **__: build("test_vit", random_seed=0)
    )
    url = "memory://photos/store"
    verb.run(verb.Config("photos", "test_vit", url, device="cpu"))
    assert f"--features {url}" in capsys.readouterr().out
    verb.run(verb.Config("photos", "test_vit", str(tmp_path / "here"), device="cpu"))
    sent = files_of(local_folder(url))
    assert sent == files_of(tmp_path / "here")
    shutil.rmtree(os.environ["DKGZSL_HOME"])
    verb.run(verb.Config("photos", "test_vit", url, device="cpu"))
    assert "nothing was left to do" in capsys.readouterr().out
    assert files_of(local_store(url)) == sent
    with pytest.raises(DataError, match="there is no feature store"):
        load_dataset("numbers", features="memory://photos/none")
