"""The page's sessions: predictions, new classes, adaptation, versions."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkgzsl.app.describing import attributes_of, description_of, mentioned, most_alike, read_attributes
from dkgzsl.app.results import class_cards, class_page, percent, prediction_result
from dkgzsl.app.session import Session, read_one
from dkgzsl.cli.main import main
from dkgzsl.data.numbers.dataset import number_images, numbers
from dkgzsl.errors import DataError
from dkgzsl.inference.adaptation import training_digests
from dkgzsl.inference.new_classes import Described
from dkgzsl.inference.photos import photo_reader
from dkgzsl.representation.overlay import overlay


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    """A number of an unseen class, as a person might draw it: large."""
    problem = numbers()
    which = next(i for i in problem.parts.test_unseen if problem.class_names[problem.labels[i]] == "05")
    path = tmp_path_factory.mktemp("pictures") / "number.png"
    small = Image.fromarray(np.rint(255 - number_images()[which] * (255 / 16)).astype(np.uint8))
    small.save(path)
    return path


def picture_of(address: str) -> Image.Image:
    """The picture of a `data:` address."""
    kind, _, content = address.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def tried(session: Session, picture: Path, bias: float = 0.0):
    reader = photo_reader(session.recognizer.record)
    return session.predict(read_one(reader, picture), reader.grid, bias=bias)


def output_of_predict(capsys, run: Path, picture: Path, *words: str) -> dict:
    capsys.readouterr()
    assert main(["predict", str(run), str(picture), "--json", "--top", "5", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_page_predicts_as_predict_does(capsys, run, picture) -> None:
    found = tried(Session.open(run), picture)
    expected = output_of_predict(capsys, run, picture)
    assert found.biased.to_json() == {k: v for k, v in expected.items() if k != "image"}
    shown = prediction_result(found, Session.open(run).recognizer, 0.0)
    assert shown["prediction"] == found.biased.to_json()
    assert shown["bars"][0] == {
        "name": "05",
        "share": round(expected["probability"], 4),
        "percent": "over 99 %",
        "kind": "unseen",
    }
    assert np.array_equal(np.asarray(picture_of(shown["picture"])), found.pixels)


def test_the_page_says_in_words_how_sure_it_is(run, picture) -> None:
    session = Session.open(run, 0)
    found = tried(session, picture)

    def with_probability(value: float):
        first, *others = found.biased.prediction.ranked
        ranked = (replace(first, probability=value), *others)
        biased = replace(found.biased, prediction=replace(found.biased.prediction, ranked=ranked))
        return prediction_result(found._replace(biased=biased), session.recognizer, 0.0)

    shown = with_probability(0.8)
    assert (shown["word"], shown["name"], shown["bars"][0]["percent"]) == ("Probably", "05", "80 %")
    assert shown["known_by"] == "The model has never seen a photo of 05. It knows only its description."
    assert shown["sentence"].startswith("Typical of 05, and in the photo: ")
    assert shown["rival"].startswith(f"Nearest rival: {shown['bars'][1]['name']} (")
    shown = with_probability(0.4)
    assert (shown["sure"], shown["word"]) == ("unsure", "Unsure, perhaps")
    none = replace(found.biased, prediction=replace(found.biased.prediction, name=None))
    shown = prediction_result(found._replace(biased=none), session.recognizer, 0.0)
    assert (shown["word"], shown["name"]) == ("None of these", None)
    assert shown["known_by"] == "The photo is unlike all classes. The most similar class is 05."


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.9951, "over 99 %"),
        (0.9949, "99 %"),
        (0.5, "50 %"),
        (0.0051, "1 %"),
        (0.0049, "under 1 %"),
        (0.0, "under 1 %"),
    ],
)
def test_probabilities_in_words(share: float, words: str) -> None:
    assert percent(share) == words


def test_a_photo_has_a_picture_of_its_evidence(tmp_path) -> None:
    pytest.importorskip("timm", reason="the extra `images` is not installed")
    from inference.photo_runs import photo_run

    made = photo_run(tmp_path)
    session = Session.open(made.run)
    reader = photo_reader(session.recognizer.record, weights=made.weights, device="cpu")
    attempts = [session.predict(read_one(reader, path), reader.grid) for path in made.photos]
    found = next(one for one in attempts if one.biased.evidence)
    shown = prediction_result(found, session.recognizer, 0.0)
    names = [one.name for one in found.biased.evidence if one.attention is not None]
    assert [one["label"] for one in shown["maps"]] == names
    factor = -(-320 // found.pixels.shape[1])
    pixels = found.pixels.repeat(factor, 0).repeat(factor, 1)
    expected = overlay(pixels, found.biased.evidence[0].attention, reader.grid)
    assert np.array_equal(np.asarray(picture_of(shown["maps"][0]["picture"])), expected)


def test_the_bias_multiplies_the_odds_of_unseen_classes(run, picture) -> None:
    session = Session.open(run)
    reader = photo_reader(session.recognizer.record)
    features, seen = read_one(reader, picture).features, session.recognizer.is_seen
    before = session.recognizer.probabilities(features)[0]
    after = session.biased(1.5).probabilities(features)[0]
    ratio = (after[~seen].sum() / after[seen].sum()) / (before[~seen].sum() / before[seen].sum())
    assert ratio == pytest.approx(np.exp(1.5))
    low = tried(session, picture, -1e6)
    assert all(one.seen for one in low.biased.prediction.ranked)
    assert low.unbiased == tried(session, picture).unbiased
    words = prediction_result(low, session.recognizer, -1e6)["bias"]
    assert words.startswith("With more weight for seen classes the class changes from 05 to ")
    assert prediction_result(low, session.recognizer, 0.0)["bias"] is None


def test_a_class_is_recognised_at_once_and_saved_as_add_class_saves(capsys, run, picture) -> None:
    start = Session.open(run)
    without = replace(start, recognizer=start.recognizer.without_class("05"))
    assert tried(without, picture).biased.prediction.name != "05"
    number = start.recognizer.number_of("05")
    columns = start.recognizer.record.semantics.columns
    values = dict(zip(columns, start.recognizer.model.semantics[number].tolist(), strict=True))
    more = without.with_class(" zero <five> ", values=values)
    assert more.added == ("zero <five>",)
    found = tried(more, picture).biased
    assert found.prediction.ranked[0].name == "zero <five>"
    assert [one["name"] for one in class_cards(more) if one["added"]] == ["zero <five>"]
    near = class_page(more, "zero <five>")
    assert near["kind"] == "unseen"
    values = {row["name"]: row["value"] for row in near["rows"]}
    assert values == {row["name"]: row["value"] for row in class_page(start, "05")["rows"]}
    saved = more.saved()
    assert (saved.parent, saved.added) == (1, ())
    assert output_of_predict(capsys, run, picture)["evidence"] == found.to_json()["evidence"]
    assert output_of_predict(capsys, run, picture)["class"] == found.prediction.name
    assert output_of_predict(capsys, run, picture, "--version", "0")["class"] == "05"
    with pytest.raises(DataError, match="nothing to save"):
        saved.saved()


def test_a_class_has_its_attributes(run) -> None:
    session = Session.open(run, 0)
    known, number = session.recognizer.evidence, session.recognizer.number_of("08")
    rows = session.attributes_of("08")
    assert {name: value for name, value, _ in rows} == pytest.approx(
        dict(zip(known.names, known.table[number].tolist(), strict=True))
    )
    column = known.table[:, known.names.index(rows[0][0])].double().numpy()
    assert rows[0][2] == pytest.approx((rows[0][1] - column.mean()) / column.std())
    typical = [one for *_, one in rows]
    assert typical == sorted(typical, reverse=True)
    assert typical[-1] < 0


def test_an_unreadable_image_is_an_error(run, tmp_path) -> None:
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(DataError, match="cannot be read"):
        read_one(photo_reader(Session.open(run).recognizer.record), tmp_path / "no.png")
    with pytest.raises(DataError, match="not described"):
        Session.open(run).with_class("new")


def test_a_class_is_described_like_another_one(run) -> None:
    session = Session.open(run, 0)
    column = session.recognizer.record.semantics.columns[0]
    like = session.with_class("copy", like="05")
    assert np.array_equal(description_of(like.recognizer, "copy"), description_of(session.recognizer, "05"))
    other = session.with_class("other", like="05", values={column: 0.25})
    expected = description_of(session.recognizer, "05")
    expected[0] = 0.25
    assert description_of(other.recognizer, "other") == pytest.approx(expected)


def test_a_text_is_encoded_where_an_encoder_made_the_descriptions(run, monkeypatch) -> None:
    session = Session.open(run, 0)
    record = session.recognizer.record
    encoded = replace(record, semantics=replace(record.semantics, encoder="an encoder"))
    session = replace(session, recognizer=replace(session.recognizer, record=encoded))
    vector, asked = description_of(session.recognizer, "05"), []
    monkeypatch.setattr(
        "dkgzsl.inference.new_classes.Describer.from_texts",
        lambda _, texts: asked.append(texts) or {name: Described(vector, 0) for name in texts},
    )
    more = session.with_class("mine", text="A zero and a five.")
    assert asked == [{"new": "A zero and a five."}]
    assert np.array_equal(description_of(more.recognizer, "mine"), vector)
    assert attributes_of(encoded.semantics) == ()
    for text, words in ((" ", "not described"), ("n" * 2001, "more than 2,000 characters")):
        with pytest.raises(DataError, match=words):
            session.with_class("other", text=text)


def test_a_class_is_described_by_photos(run) -> None:
    session, problem = Session.open(run, 0), numbers()
    own = problem.features[problem.labels == 5]
    assert most_alike(session.recognizer, own[:3]) == "05"
    without = replace(session, recognizer=session.recognizer.without_class("05"))
    more = without.with_class("mine", features=own[:3])
    assert more.recognizer.photos_of(more.recognizer.number_of("mine")) == 3
    assert more._change()["photos"] == {"mine": 3}
    found = [one.ranked[0].name == "mine" for one in more.recognizer.predict(own[3:40])]
    assert np.mean(found) > 0.8
    read = read_attributes(without.recognizer, own[:3])
    assert (read["left_loop_whole"] > 0.7, read["right_loop_whole"] < 0.3) == (True, True)
    evidence = replace(without.recognizer.evidence, reader=None)
    unread = replace(without, recognizer=replace(without.recognizer, evidence=evidence))
    near = most_alike(unread.recognizer, own[:3])
    alike = unread.with_class("mine", features=own[:3]).recognizer
    assert np.array_equal(description_of(alike, "mine"), description_of(alike, near))


def test_attributes_are_found_in_a_text() -> None:
    columns = ("left_loop_whole", "left_loop", "has_bill_shape::hooked_seabird", "narrow")
    text = "The LEFT part is a whole loop, no narrow strokes; a hooked seabird's bill of this shape"
    assert mentioned(text, columns) == {
        "left_loop_whole": True,
        "narrow": False,
        "has_bill_shape::hooked_seabird": True,
    }
    assert mentioned("nothing of these", columns) == {}


def test_a_session_is_adapted_and_saved(run) -> None:
    problem = numbers()
    first = Session.open(run, 0)
    start = replace(
        first, recognizer=replace(first.recognizer, record=replace(first.recognizer.record, adaptation=None))
    )
    pool = problem.features[problem.parts.test_unseen[::2]]
    adapted, found = start.adapted_to(pool, trained_on=training_digests(problem))
    assert found.refusal is None
    assert adapted.unsaved
    assert not start.unsaved, "a session is never changed"
    saved = adapted.saved()
    history = json.loads((run / "versions" / str(saved.parent) / "history.json").read_text())
    assert (history["action"], history["photos"]) == ("adapt", len(pool))
    assert saved.recognizer.record.pools == (history["pool_sha256"],)
    with pytest.raises(DataError, match="already"):
        adapted.adapted_to(pool)
    refused, found = start.adapted_to(problem.features[problem.parts.test_seen[:40]])
    assert refused is start
    assert "no described class" in found.refusal


def test_names_and_numbers_of_new_classes_are_limited(run) -> None:
    session = Session.open(run, 0)
    column = session.recognizer.record.semantics.columns[0]
    with pytest.raises(DataError, match="more than 100 characters"):
        session.with_class("n" * 101, values={column: 1.0})
    with pytest.raises(DataError, match="save them first"):
        replace(session, added=tuple(map(str, range(50)))).with_class("new", values={column: 1.0})
