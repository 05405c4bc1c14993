"""What every reader of the registry keeps to, tried on a dummy data set in its format."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dkgzsl.data.doctor import examine
from dkgzsl.data.formats.image_folder import read_image_folder
from dkgzsl.data.formats.problem_folder import write_problem_folder
from dkgzsl.data.formats.reader import ListsImages, Reader, reader_names, reader_of, readers
from dkgzsl.data.load import find, list_images, load_dataset, read_unchecked
from dkgzsl.data.splits import validation_cut, with_test_images
from dkgzsl.errors import DataError
from dkgzsl.features.store_writer import StoreWriter
from formats.files import write_feature_map, write_xlsa17
from formats.toy import toy


def imported_problem(folder: Path) -> tuple[Path, dict]:
    """Three seen classes and an unseen one, ten images each, one of them unreadable; and its store."""
    roles = {"crow": "seen-train", "emu": "seen-val", "ox": "seen-train", "yak": "unseen"}
    source = folder / "mine"
    for name in roles:
        (source / "images" / name).mkdir(parents=True)
        for k in range(10):
            (source / "images" / name / f"{k}.jpg").write_bytes(b"")
    (source / "attributes.csv").write_text("class,tail,wings\nyak,3,0\nox,2,0\nemu,1,0\ncrow,0,1\n")
    (source / "classes.csv").write_text("class,role\n" + "".join(f"{c},{r}\n" for c, r in roles.items()))
    found = read_image_folder(source, "attributes")
    write_problem_folder(found, folder / "problem", name="mine")
    record = {"class_names": list(roles), "grid": [1, 2], "batch_size": 40, "backbone": {"name": "none"}}
    tokens = np.random.default_rng(0).random((40, 3, 2)).astype(np.float16)
    given = {"record": record, "paths": found.images, "labels": found.labels, "tokens": 3, "channels": 2}
    with StoreWriter(folder / "store", **given) as store:
        store.append(tokens, [("0", "bad" if number == 4 else None) for number in range(40)])
    return folder / "problem", {"features": folder / "store"}


def benchmark(folder: Path) -> tuple[Path, dict]:
    """The field's layout, with its images."""
    found = write_xlsa17(folder / "TOY", toy())
    (found / "images").mkdir()
    for number in range(len(toy().labels)):
        (found / "images" / f"{number:04d}.jpg").write_bytes(b"")
    return found, {}


CASES: dict[str, Callable[[Path], tuple[Path | str, dict]]] = {
    "numbers": lambda folder: ("numbers", {}),
    "problem-folder": imported_problem,
    "feature-map": lambda folder: (write_feature_map(folder / "TOY" / "map.hdf5", toy(regions=4)), {}),
    "xlsa17": benchmark,
}
"""By reader: writes a data set, and gives its name or path and the options of `load_dataset`."""


def test_every_reader_has_a_case() -> None:
    assert set(CASES) == set(reader_names())


@pytest.fixture(params=reader_names())
def case(request, tmp_path) -> tuple[str, Path | str, dict]:
    return request.param, *CASES[request.param](tmp_path)


def test_its_format_is_recognised_by_it_alone(case) -> None:
    name, given, _ = case
    reader, path = find(given)
    assert isinstance(reader, Reader)
    assert type(reader) is type(reader_of(name))
    assert [type(one) for one in readers() if one.recognises(path)] in ([], [type(reader)])


def test_it_gives_a_problem_with_all_that_is_recorded(case) -> None:
    _, given, options = case
    problem = load_dataset(given, **options)
    parts = problem.parts
    assert len(problem.features) == len(problem.labels)
    assert problem.semantics.shape[0] == len(problem.class_names)
    assert len(problem.seen_classes) > 1
    assert len(problem.unseen_classes) > 0
    assert not set(parts.trainval) & (set(parts.test_seen) | set(parts.test_unseen))
    assert {"format", "backbone", "default_semantics"} <= problem.provenance.keys()
    assert json.loads(json.dumps(problem.provenance)) is not None
    cut = validation_cut(problem, seed=0)
    assert len(cut.train)
    assert len(cut.held_unseen)


def test_the_doctor_reads_the_same(case) -> None:
    _, given, options = case
    problem, raw = load_dataset(given, **options), read_unchecked(given, **options)
    np.testing.assert_array_equal(raw.labels, problem.labels)
    np.testing.assert_array_equal(raw.parts["trainval"], problem.parts.trainval)
    assert not [finding for finding in examine(raw) if finding.severity == "error"]


def test_reading_twice_gives_the_same(case) -> None:
    _, given, options = case
    first, second = load_dataset(given, **options), load_dataset(given, **options)
    np.testing.assert_array_equal(np.asarray(first.features), np.asarray(second.features))
    assert first.provenance == second.provenance


def test_unknown_semantics_are_refused(case) -> None:
    _, given, options = case
    with pytest.raises(DataError, match="'no such'"):
        load_dataset(given, semantics="no such", **options)


def test_images_are_listed_as_the_parts_count_them(case) -> None:
    _, given, options = case
    if not isinstance(find(given)[0], ListsImages):
        with pytest.raises(DataError, match="no image files"):
            list_images(given)
        return
    listed, problem = list_images(given), load_dataset(given, **options)
    assert listed.labels == problem.labels.tolist()
    assert tuple(listed.class_names) == problem.class_names
    assert all((listed.root / path).is_file() for path in listed.paths)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_test_images_drawn_again_are_those_of_another_reading(case, seed) -> None:
    _, given, options = case
    redrawn = with_test_images(load_dataset(given, **options), seed)
    read = load_dataset(given, test_seed=seed, **options)
    for part in ("trainval", "test_seen", "test_unseen"):
        np.testing.assert_array_equal(getattr(redrawn.parts, part), getattr(read.parts, part))
    np.testing.assert_array_equal(validation_cut(redrawn, seed).train, validation_cut(read, seed).train)
    assert redrawn.provenance == read.provenance
