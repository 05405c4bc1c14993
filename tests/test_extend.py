"""docs/extend.md: its code blocks are a package from outside, found by its entry points."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkgzsl.cli.main import main
from dkgzsl.data.formats import reader as formats
from dkgzsl.data.load import load_dataset
from dkgzsl.errors import ConfigError, DataError
from dkgzsl.features import backbones
from worlds import arrays

PAGE = Path(__file__).parents[1] / "docs" / "extend.md"
BLOCK = re.compile(r"^```(\w+)\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """File name and text of every block on the page."""
    return [(name, text) for _, name, text in BLOCK.findall(PAGE.read_text(encoding="utf-8"))]


def forget() -> None:
    for registry in (formats, backbones):
        registry._outside.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "my_package"]:
        del sys.modules[name]


@pytest.fixture
def installed(tmp_path, monkeypatch) -> None:
    """The page's package as pip leaves it: modules, and the entry points among its metadata."""
    site = tmp_path / "site"
    metadata = site / "my_package-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    points = []
    for name, text in blocks():
        if name == "pyproject.toml":
            group = re.search(r'entry-points\."(.+?)"', text)[1]
            points.append(f"[{group}]\n" + text.split("\n", 1)[1].replace('"', ""))
        else:
            (site / name).parent.mkdir(exist_ok=True)
            (site / name).write_text(text, encoding="utf-8")
    (metadata / "entry_points.txt").write_text("\n".join(points))
    monkeypatch.syspath_prepend(site)
    forget()
    yield
    monkeypatch.undo()
    forget()


def test_each_example_is_short() -> None:
    assert [name for name, _ in blocks()] == [
        "my_package/npz_reader.py",
        "pyproject.toml",
        "my_package/colour_grid.py",
        "pyproject.toml",
    ]
    assert all(text.count("\n") < 60 for _, text in blocks())


@pytest.fixture
def birds(tmp_path) -> Path:
    features, labels, attributes = arrays()
    names = np.array([f"bird {number}" for number in range(16)])
    path = tmp_path / "birds.npz"
    np.savez(
        path, features=features, labels=labels, class_names=names, attributes=attributes, unseen=[12, 13, 14, 15]
    )
    return path


@pytest.mark.usefixtures("installed")
def test_a_reader_from_outside_loads_trains_and_is_checked(birds, tmp_path, capsys) -> None:
    assert formats.reader_names()[-1] == "npz"
    problem = load_dataset(birds)
    assert problem.name == "birds"
    assert problem.unseen_classes.tolist() == [12, 13, 14, 15]
    assert len(problem.parts.test_seen) == 12 * 5
    assert main(["data", "check", str(birds), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"] == "birds"
    words = ["train", str(birds), "--baseline", "none", "--report", "off", "--seeds", "2"]
    assert main([*words, "--json", "--out", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["t1"]["mean"] > 0.5  # by chance 0.25


def test_without_the_package_the_file_is_unknown(birds) -> None:
    with pytest.raises(DataError, match="unknown data set"):
        load_dataset(birds)


@pytest.mark.usefixtures("installed")
def test_a_backbone_from_outside_extracts_and_predicts(tmp_path, capsys) -> None:
    rng, source = np.random.default_rng(0), tmp_path / "mine"
    lines = ["class,red,green,blue"]
    for number in range(8):
        colour = rng.uniform(0.1, 0.9, 3)
        lines.append(f"hue {number}," + ",".join(f"{value:.3f}" for value in colour))
        (source / "images" / f"hue {number}").mkdir(parents=True)
        for photo in range(8):
            pixels = (255 * (colour + 0.05 * rng.normal(size=(40, 48, 3))).clip(0, 1)).astype(np.uint8)
            Image.fromarray(pixels).save(source / "images" / f"hue {number}" / f"{photo}.png")
    (source / "attributes.csv").write_text("\n".join(lines) + "\n")
    roles = [f"hue {number},{'unseen' if number > 5 else 'seen'}" for number in range(8)]
    (source / "classes.csv").write_text("class,role\n" + "\n".join(roles) + "\n")
    problem, store, run = (str(tmp_path / name) for name in ("problem", "store", "run"))
    assert main(["data", "import", str(source), "--semantics", "attributes", "--out", problem]) == 0
    words = ["extract", problem, "--backbone", "colour-grid", "--image-size", "32", "--out", store]
    assert main([*words, "--device", "cpu"]) == 0
    words = ["train", problem, "--features", store, "--representation", "pooled", "--baseline", "none"]
    assert main([*words, "--report", "off", "--device", "cpu", "--out", run]) == 0
    capsys.readouterr()
    photo = str(source / "images" / "hue 6" / "0.png")
    assert main(["predict", run, photo, "--json"]) == 0
    (found,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found["image"] == photo
    stored = load_dataset(problem, features=store)
    assert stored.provenance["backbone"] == "colour-grid"
    assert stored.features.shape == (64, 17, 6)


@pytest.mark.usefixtures("installed")
def test_what_is_no_reader_or_backbone_says_so(tmp_path, monkeypatch) -> None:
    import my_package.colour_grid
    import my_package.npz_reader

    monkeypatch.setattr(my_package.npz_reader, "NpzReader", dict)
    monkeypatch.setattr(my_package.colour_grid, "build", lambda name, **_: name)
    with pytest.raises(ConfigError, match="gives a dict, not a reader"):
        formats.reader_of("npz")
    with pytest.raises(ConfigError, match="'colour-grid' is a str, not a backbone"):
        backbones.build_backbone("colour-grid")


@pytest.mark.usefixtures("installed")
def test_a_broken_package_spoils_nothing_of_ours(birds, monkeypatch) -> None:
    import my_package.npz_reader

    monkeypatch.delattr(my_package.npz_reader, "NpzReader")
    assert load_dataset("numbers").name == "numbers"
    assert formats.embedded_reader("no such name") is None
    with pytest.raises(ConfigError, match="the reader 'npz' cannot be made"):
        load_dataset(birds)
    monkeypatch.delattr("my_package.colour_grid.build")
    assert backbones.build_backbone("oriented-gradients").grid == (5, 5)
    with pytest.raises(ConfigError, match="'colour-grid' cannot be imported"):
        backbones.build_backbone("colour-grid")
