"""Which data formats there are: one `Reader` a format, one line a reader.

A reader from outside the package joins by an entry point of the group `dkgzsl.readers`; its value is the class.

    [project.entry-points."dkgzsl.readers"]
    my-format = "my_package.my_format:MyReader"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from dkgzsl.data.raw import RawData
from dkgzsl.errors import ConfigError

if TYPE_CHECKING:
    from dkgzsl.features.extraction import ImageList

GROUP: Final = "dkgzsl.readers"
"""Entry points of this group are readers from outside."""


@dataclass(frozen=True)
class Wanted:
    """What is to be read of a data set; a reader uses the fields that its format has a place for.

    Attributes:
        features: feature file by name or path, or a feature store; None: the format's default.
        semantics: source of class descriptions to start from; None: the format's default.
        backbone: what computed the features, as the user says; None: what the files say.
        unseen: other unseen classes, by number or name; given only to the reader of an embedded data set.
        test_seed: draws the seen test images where no official split fixes them (see `dkgzsl.data.splits`).
        features_needed: whether missing features are an error; `data check` also takes files without them.
    """

    features: str | Path | None = None
    semantics: str | None = None
    backbone: str | None = None
    unseen: Sequence[int | str] | None = None
    test_seed: int = 0
    features_needed: bool = True


@runtime_checkable
class Reader(Protocol):
    """Reads one data format. It is made without arguments."""

    def recognises(self, path: Path) -> bool:
        """Whether an existing file or folder has this format; a quick check, nothing large is read."""
        ...

    def read(self, path: Path, wanted: Wanted) -> tuple[RawData, dict[str, Any]]:
        """Read without checking: the checks are the same for all formats and come afterwards.

        Returns:
            What the files hold, and its provenance (JSON values), recorded with every figure. Of the provenance,
            `default_semantics` names the source of descriptions to use where none is asked for (default: the first
            table), `backbone` what computed the features, `store` how an image becomes features.

        Raises:
            DataError: a file is missing or cannot be read; the message says what to do.
        """
        ...


@runtime_checkable
class Embedded(Protocol):
    """A reader of data sets that come with its package: they are found by name, and no path is looked for."""

    @property
    def datasets(self) -> Mapping[str, Mapping[str, Any]]:
        """Name of each data set -> its row in `dkgzsl data list` (see `dkgzsl.data.inventory`)."""
        ...


@runtime_checkable
class ListsImages(Protocol):
    """A reader of a format whose image files are known, so that features can be extracted from them."""

    def images(self, path: Path) -> ImageList:
        """The images, in the order in which the parts count them.

        Raises:
            DataError: the files do not list images, or the images are not there.
        """
        ...


_OURS: Final = {
    "numbers": "dkgzsl.data.numbers.dataset:NumbersReader",
    "problem-folder": "dkgzsl.data.formats.problem_folder:ProblemFolderReader",
    "feature-map": "dkgzsl.data.formats.feature_maps:FeatureMapReader",
    "xlsa17": "dkgzsl.data.formats.benchmark_folder:BenchmarkFolderReader",
}


def reader_names() -> tuple[str, ...]:
    """All formats: ours, then those from outside in alphabetical order."""
    return (*_OURS, *_outside())


def reader_of(name: str) -> Reader:
    """Make the reader of a format.

    Args:
        name: one of `reader_names`.

    Raises:
        ConfigError: it cannot be imported, or is no reader.
    """
    reference = _OURS.get(name) or _outside()[name]
    module, _, attribute = reference.partition(":")
    try:
        reader = getattr(import_module(module), attribute)()
    except Exception as error:  # of any kind: code from outside runs here
        raise ConfigError(f"the reader {name!r} cannot be made: {error}", where=reference) from error
    if not isinstance(reader, Reader):
        raise ConfigError(
            f"the entry point of the reader {name!r} gives a {type(reader).__name__}, not a reader",
            where=reference,
            fix="let it name a class with the methods of dkgzsl.data.formats.reader.Reader",
        )
    return reader


def readers() -> Iterator[Reader]:
    """The readers one after the other, each made when it is asked; broken ones from outside are left out."""
    yield from map(reader_of, _OURS)
    for name in _outside():
        try:
            reader = reader_of(name)
        except ConfigError:  # a broken package must not keep ours from reading: see `refuse_broken`
            continue
        yield reader


def reader_for(path: Path) -> Reader | None:
    """The first reader that recognises an existing file or folder; None where none does."""
    return next((reader for reader in readers() if reader.recognises(path)), None)


def refuse_broken() -> None:
    """Where no reader knows what to do, a broken one from outside may be the one that is missing.

    Raises:
        ConfigError: there is one.
    """
    for name in _outside():
        reader_of(name)


def embedded_datasets() -> Iterator[tuple[str, Reader, Mapping[str, Any]]]:
    """Data sets that come with a reader: name, reader, and the row in `dkgzsl data list`."""
    for reader in readers():
        if isinstance(reader, Embedded):
            yield from ((name, reader, row) for name, row in reader.datasets.items())


def embedded_reader(name: str) -> Reader | None:
    """The reader that a data set of that name comes with; None where there is none."""
    return next((reader for known, reader, _ in embedded_datasets() if known == name), None)


@cache
def _outside() -> dict[str, str]:
    """Entry points by name in alphabetical order; they do not replace a reader of this package."""
    found = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    return {entry.name: entry.value for entry in found if entry.name not in _OURS}
