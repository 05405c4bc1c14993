"""What versions of a run have added to it since its training, for its card and its page."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dkgzsl.checksums import check_files
from dkgzsl.files import write_whole
from dkgzsl.runs.folder import RunFolder, version_folder, versions_of
from dkgzsl.runs.model_card import model_card
from dkgzsl.runs.model_record import FILE, RecognitionRecord, kind_of

CARD = "card.md"


class Added(NamedTuple):
    """A class that was added after the training.

    Attributes:
        name: of the class.
        kind: `unseen`, or `described + 3 photos`.
    """

    name: str
    kind: str


def added_classes(run: Path) -> tuple[Added, ...]:
    """The classes that the newest version knows and the training did not, in the order in which they came.

    Raises:
        RunError: a record of the run is damaged.
    """
    newest = max(versions_of(run), default=0)
    if not newest:
        return ()
    for folder in (run, version_folder(run, newest)):
        check_files(folder, (FILE,))
    before, after = RecognitionRecord.read(run), RecognitionRecord.read(version_folder(run, newest))
    return tuple(
        Added(after.class_names[k], kind_of(False, after.photos.get(str(k), 0)))
        for k in range(len(before.class_names), len(after.class_names))
        if k not in after.removed
    )


def card_of(run: Path, *, license_id: str = "other") -> str:
    """The card of a finished run, with the classes that were added since.

    Args:
        run: the run folder.
        license_id: a model hub's name of a licence.

    Raises:
        RunError: the run is not finished, or a file is damaged.
    """
    opened = RunFolder.open(run)
    result, environment = opened.read_result(), opened.read_json("environment.json")
    return model_card(result, result, environment, license_id=license_id, added=added_classes(run))


def refresh_card(run: Path) -> None:
    """Write the card again after a version was added; nothing where the folder has none, as an estimator's."""
    if (run / CARD).is_file():
        write_whole(run / CARD, card_of(run))
