"""A run to a folder or a hub and back: what a package holds, what it leaves out, and what is refused."""

import inspect
import json
import os
import shutil
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import safe_open

from dkgzsl.cli.main import main
from dkgzsl.errors import ConfigError, RunError
from dkgzsl.files import read_checkpoint, write_checkpoint
from dkgzsl.inference.hub import hub
from dkgzsl.inference.hub.hub import pull, push
from dkgzsl.inference.hub.redaction import redacted, redacted_values
from dkgzsl.inference.recognizer import Recognizer
from inference.photo_runs import PhotoRun, photo_run
from sealing import reseal

pytest.importorskip("timm", reason="the extra `images` is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PhotoRun:
    """A run with a class that was added later, and a record that names an encoder by its folder."""
    made = photo_run(tmp_path_factory.mktemp("photos"))
    words = ["--name", "late bird", "--set", "red=0.9", "green=0.1", "blue=0.2"]
    assert main(["add-class", str(made.run), *words]) == 0
    for name in ("report.html", "photo.jpg"):
        (made.run / name).write_text("photos are drawn in it")
    file = made.run / "recognizer.json"
    record = json.loads(file.read_text())
    encoder = str(made.run.parent / "models" / "minilm")
    record["semantics"]["encoder"] = encoder
    file.write_text(json.dumps(record))
    tensors, values = read_checkpoint(made.run / "representation.safetensors")
    values["refiner"]["record"]["vectors"] = f"encoder:{encoder}"
    write_checkpoint(made.run / "representation.safetensors", tensors, values)
    reseal(made.run)
    return made


@pytest.fixture
def pushed(made, tmp_path) -> Path:
    push(made.run, str(tmp_path / "pushed"))
    return tmp_path / "pushed"


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def rewrite(folder: Path, name: str, content: bytes | None = None, **entry) -> None:
    """Put a file there with a manifest that vouches for it, as a hostile sender would."""
    manifest = manifest_of(folder)
    if content is not None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        entry = {"size": len(content), "sha256": sha256(content).hexdigest(), **entry}
    manifest["files"][name] = {**manifest["files"].get(name, {}), **entry}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def refused(source: Path | str, out: Path, match: str) -> None:
    with pytest.raises(RunError, match=match):
        pull(str(source), out)
    assert not out.exists()
    assert not list(out.parent.glob(".*partial"))


def test_there_and_back(capsys, made, tmp_path) -> None:
    there, back = tmp_path / "a b" / "pushed", tmp_path / "back"
    assert main(["push", str(made.run), str(there), "--json"]) == 0
    sent = json.loads(capsys.readouterr().out)
    assert main(["pull", there.as_uri(), "--out", str(back), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {**sent, "where": str(back)}
    tokens = np.random.default_rng(0).gamma(1.0, 1.0, (9, *Recognizer.from_run(made.run).record.features))
    for version in (None, 0, 1):
        theirs, ours = (Recognizer.from_run(run, version) for run in (made.run, back))
        assert ours.known_names == theirs.known_names
        np.testing.assert_array_equal(ours.probabilities(tokens), theirs.probabilities(tokens))
    assert "late bird" in Recognizer.from_run(back).known_names
    result, before = (json.loads((run / "result.json").read_text()) for run in (back, made.run))
    assert result == {**before, "run": "run"}
    assert (back / "card.md").read_text() == (made.run / "card.md").read_text()
    again = tmp_path / "again"
    assert push(back, str(again)).manifest == sent["manifest"], "a pulled run is pushed on unchanged"


def test_what_is_in_a_package(made, pushed) -> None:
    names = {path.relative_to(pushed).as_posix() for path in pushed.rglob("*") if path.is_file()}
    version = {f"versions/1/{path.name}" for path in (made.run / "versions" / "1").glob("[!c]*")}
    assert names == {
        "README.md", "manifest.json", "config.yaml", "environment.json", "recognizer.json", "result.json",
        "metrics.jsonl", "per_class.csv", "model.safetensors", "representation.safetensors",
        "evidence.safetensors", "in_distribution.safetensors",
    } | version  # fmt: skip
    assert {"versions/1/history.json", "versions/1/recognizer.json"} <= version
    assert {"seeds", "report.html", "photo.jpg"} <= {path.name for path in made.run.iterdir()}
    home = str(made.run.parent.parent).encode()
    for path in pushed.rglob("*"):
        if path.is_file():
            assert home not in path.read_bytes(), path.name
    assert "someone" not in "".join(p.read_text() for p in pushed.rglob("*.json"))
    assert json.loads((pushed / "recognizer.json").read_text())["semantics"]["encoder"] == "minilm"
    for name, entry in manifest_of(pushed)["files"].items():
        assert sha256((pushed / name).read_bytes()).hexdigest() == entry["sha256"]


def test_a_package_of_the_first_format_is_read(pushed, tmp_path) -> None:
    manifest = manifest_of(pushed)
    assert manifest["format"] == "dkgzsl package 2"
    (pushed / "manifest.json").write_text(json.dumps({**manifest, "format": "dkgzsl travelling run 1"}))
    pull(str(pushed), tmp_path / "back")
    assert (tmp_path / "back" / "model.safetensors").is_file()
    (pushed / "manifest.json").write_text(json.dumps({**manifest, "format": "dkgzsl package 3"}))
    refused(pushed, tmp_path / "out", "format is 'dkgzsl package 3'")


def test_tensors_are_copied_as_they_are(made, pushed) -> None:
    for name in ("model.safetensors", "representation.safetensors"):
        with safe_open(made.run / name, "np") as before, safe_open(pushed / name, "np") as after:
            assert list(before.keys()) == list(after.keys())
            for key in before.keys():  # noqa: SIM118
                np.testing.assert_array_equal(before.get_tensor(key), after.get_tensor(key))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/me/my birds", "my birds"),
        ("/home/me/birds/", "birds"),
        ("~/birds", "birds"),
        (r"C:\Users\me\birds", "birds"),
        ("encoder:/home/me/models/minilm", "encoder:minilm"),
        ("cannot read '/home/me/x.csv': no", "cannot read 'x.csv': no"),
        (r"from D:\data\x.mat, line 3", "from x.mat, line 3"),
        ("https://example.org/a/b/c", "https://example.org/a/b/c"),
        ("images/crow/1.jpg", "images/crow/1.jpg"),
        ("and/or 1/2 50 % / 3", "and/or 1/2 50 % / 3"),
        ("vit-b/16", "vit-b/16"),
        ("", ""),
    ],
)
def test_paths_are_cut_down_to_their_names(text, left) -> None:
    assert redacted(text) == left
    assert redacted_values({text or "k": [text, 1, None]}) == {left or "k": [left, 1, None]}


def test_damage_is_found(pushed, tmp_path) -> None:
    out = tmp_path / "out"
    model = pushed / "model.safetensors"
    content = model.read_bytes()
    model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(pushed, out, "model.safetensors is not the file that was pushed")
    model.write_bytes(content[:-1])
    refused(pushed, out, "model.safetensors has .* bytes, the manifest says")
    model.unlink()
    refused(pushed, out, "model.safetensors is missing")
    (pushed / "manifest.json").write_text("{")
    refused(pushed, out, "the manifest is damaged")
    (pushed / "manifest.json").unlink()
    refused(pushed, out, r"no manifest.json")
    refused(tmp_path / "nowhere", out, "no such folder")


def test_hostile_names_are_refused(pushed, tmp_path) -> None:
    out = tmp_path / "deep" / "out"
    out.parent.mkdir()
    for name in (
        "../escaped.json", "/etc/passwd", "versions/../../x.json", "versions/1/../../../x.json", "weights.pkl",
        "model.pt", "model.safetensors/../x", "setup.py", "versions/01/model.safetensors", "C:\\x.json", "",
        "model.safetensors\n", "seeds/0.json", "report.html",
    ):  # fmt: skip
        before = (pushed / "manifest.json").read_text()
        rewrite(pushed, name, size=1, sha256="0" * 64)
        refused(pushed, out, "no part of a run")
        (pushed / "manifest.json").write_text(before)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "pushed"]


def test_hostile_files_are_refused(pushed, tmp_path) -> None:
    out = tmp_path / "out"

    def changed() -> Path:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(pushed, copy)
        return copy

    (changed() / "extra.py").write_text("print('hello')")
    refused(tmp_path / "copy", out, "that the manifest does not name: 'extra.py'")

    secret = tmp_path / "secret.txt"
    secret.write_text("{}")
    for name, target in (("result.json", secret), ("README.md", "/etc/passwd"), ("versions", tmp_path)):
        copy = changed()
        shutil.rmtree(copy / name) if (copy / name).is_dir() else (copy / name).unlink()
        (copy / name).symlink_to(target)
        refused(copy, out, "is a link or a device")

    copy = changed()
    (copy / "per_class.csv").unlink()
    os.mkfifo(copy / "per_class.csv")
    refused(copy, out, "is a link or a device")

    pickled = b"\x80\x04\x95" + b"cos\nsystem\n" * 20
    rewrite(changed(), "model.safetensors", pickled)
    refused(tmp_path / "copy", out, "model.safetensors is not what its name says")
    rewrite(changed(), "result.json", b"not json")
    refused(tmp_path / "copy", out, "result.json is not what its name says")
    rewrite(changed(), "README.md", b"\xff\xfe\x00")
    refused(tmp_path / "copy", out, "README.md is not what its name says")
    rewrite(changed(), "recognizer.json", b"{}")
    refused(tmp_path / "copy", out, "version 0 of the run cannot be loaded")
    rewrite(changed(), "versions/2/recognizer.json", b"[1]")
    refused(tmp_path / "copy", out, "version 2 of the run cannot be loaded")

    for size in (2**40, -1, 1.5, "7", True):
        rewrite(changed(), "metrics.jsonl", size=size)
        refused(tmp_path / "copy", out, "a size that no run has")
    rewrite(changed(), "metrics.jsonl", sha256="../x")
    refused(tmp_path / "copy", out, "no sha256")
    copy = changed()
    (copy / "manifest.json").write_text("[" * 100_000)
    refused(copy, out, "the manifest is damaged")
    with (copy / "manifest.json").open("wb") as file:
        file.truncate(5 * 2**20)
    refused(copy, out, "larger than any")


def test_nothing_is_overwritten_unasked(made, pushed, tmp_path) -> None:
    with pytest.raises(RunError, match="something already"):
        push(made.run, str(pushed))
    assert push(made.run, str(pushed), overwrite=True).files > 8
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="will not overwrite"):
        push(made.run, str(tmp_path / "mine"), overwrite=True)
    with pytest.raises(RunError, match="something already"):
        pull(str(pushed), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


class FakeHub:
    """A hub in a folder that takes the calls that the real client takes, and no others."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, []

    def _taking(self, name: str):
        real = pytest.importorskip("huggingface_hub").HfApi
        signature = inspect.signature(getattr(real, name))

        def call(*positional, **named):
            bound = signature.bind(self, *positional, **named).arguments
            self.calls.append((name, {key: value for key, value in bound.items() if key != "self"}))
            return getattr(self, f"_{name}")(**{k: v for k, v in bound.items() if k != "self"})

        return call

    # Named one by one: from Python 3.12 on, a protocol does not see what `__getattr__` makes.
    create_repo = property(lambda self: self._taking("create_repo"))
    upload_folder = property(lambda self: self._taking("upload_folder"))
    repo_info = property(lambda self: self._taking("repo_info"))
    hf_hub_download = property(lambda self: self._taking("hf_hub_download"))

    def _create_repo(self, repo_id, private, exist_ok) -> None:
        assert exist_ok
        (self.folder / repo_id).mkdir(parents=True, exist_ok=True)
        (self.folder / repo_id / ".gitattributes").write_text("*.safetensors filter=lfs\n")

    def _upload_folder(self, repo_id, folder_path, commit_message, delete_patterns) -> None:
        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True)

    def _repo_info(self, repo_id, files_metadata) -> SimpleNamespace:
        here = self.folder / repo_id
        files = [path for path in here.rglob("*") if path.is_file()]
        siblings = [
            SimpleNamespace(rfilename=path.relative_to(here).as_posix(), size=path.stat().st_size)
            for path in files
        ]
        return SimpleNamespace(sha="c0ffee", siblings=siblings)

    def _hf_hub_download(self, repo_id, filename, revision, local_dir) -> str:
        assert revision == "c0ffee"
        target = Path(local_dir) / filename
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / repo_id / filename, target)
        return str(target)


def test_to_and_from_a_hub(made, tmp_path) -> None:
    pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    fake = FakeHub(tmp_path / "hub")
    sent = push(made.run, "me/birds", private=True, license_id="cc-by-4.0", client=fake)
    assert sent.where == "me/birds"
    name, said = fake.calls[0]
    assert (name, said["repo_id"], said["private"]) == ("create_repo", "me/birds", True)
    assert "license: cc-by-4.0" in (tmp_path / "hub" / "me" / "birds" / "README.md").read_text()
    got = pull("me/birds", tmp_path / "back", client=fake)
    assert got.manifest == sent.manifest
    assert Recognizer.from_run(tmp_path / "back").known_names == Recognizer.from_run(made.run).known_names
    downloads = [said["filename"] for name, said in fake.calls if name == "hf_hub_download"]
    assert downloads[0] == "manifest.json"
    assert ".gitattributes" not in downloads

    (tmp_path / "hub" / "me" / "birds" / "evil.pkl").write_bytes(b"\x80")
    fake.calls.clear()
    with pytest.raises(RunError, match=r"evil.pkl"):
        pull("me/birds", tmp_path / "more", client=fake)
    assert [said.get("filename") for _, said in fake.calls] == [None, "manifest.json"], "nothing else is fetched"
    with pytest.raises(RunError, match=r"the hub refuses, or cannot be reached: FileNotFoundError|no manifest"):
        pull("me/nothing", tmp_path / "more", client=fake)


def test_which_target_is_what(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub._folder("me/birds") is None
    (tmp_path / "me" / "birds").mkdir(parents=True)
    assert hub._folder("me/birds") == Path("me/birds"), "a folder that is there is meant"
    assert hub._folder("./you/birds") == Path("you/birds")
    assert hub._folder("file:///a%20b/c") == Path("/a b/c")
    for wrong in ("https://example.org/me/birds", "file://elsewhere/x"):
        with pytest.raises(ConfigError):
            hub._folder(wrong)


def test_the_token(made, tmp_path, monkeypatch) -> None:
    api = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="HF_TOKEN holds no token"):
        pull("me/birds", tmp_path / "x", token_from_env=True)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    client = hub._client(True)
    assert isinstance(client, api.HfApi)
    assert client.token == "hf_secret"
    assert hub._client(False).token is None
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="huggingface_hub is not installed"):
        pull("me/birds", tmp_path / "x")


def test_an_unfinished_run_is_not_pushed(capsys, made, tmp_path) -> None:
    unfinished = tmp_path / "unfinished"
    shutil.copytree(made.run, unfinished)
    (unfinished / "result.json").unlink()
    (unfinished / "checksums.json").unlink()
    assert main(["push", str(unfinished), str(tmp_path / "x")]) == 2
    assert "it is not finished" in capsys.readouterr().err
    assert main(["push", str(tmp_path / "none"), str(tmp_path / "x")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
