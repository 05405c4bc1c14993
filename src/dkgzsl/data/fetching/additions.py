"""Files that the field uses with a data set and that its archive lacks: one download each, checked by sha256.

A data set works without them. Where one cannot be had, the reason is one line, and not an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from dkgzsl.data.fetching.download import Patience, download
from dkgzsl.errors import DataError
from dkgzsl.files import sha256_of


@dataclass(frozen=True)
class Addition:
    """One file for one data set.

    Attributes:
        dataset: the data set's name, also the folder's name below the data root.
        file: the file's name there.
        url: where it is published.
        size: its bytes.
        sha256: of its content.
        what: what it holds, and what a data set without it has instead.
        terms: licence or terms in a sentence.
    """

    dataset: str
    file: str
    url: str
    size: int
    sha256: str
    what: str
    terms: str


_REVISION: Final = "1010bd15fd0166d41791e96357b8ce27522bf236"

ADDITIONS: Final = {
    "CUB": Addition(
        dataset="CUB",
        file="sent_splits.mat",
        url=f"https://raw.githubusercontent.com/Hanzy1996/CE-GZSL/{_REVISION}/data/CUB/sent_splits.mat",
        size=1_696_088,
        sha256="53f542c27e45f3ace55f4465ba2743a1c3400a329c61be7aa116e7ccb77c4087",
        what="class descriptions from sentences (1,024 numbers each); without it CUB has its 312 attributes",
        terms=(
            "in the repository of CE-GZSL (Han et al., CVPR 2021), which is under the MIT licence; the embeddings "
            "are those of Reed et al. (CVPR 2016), to be cited, and no licence of their own is known to us"
        ),
    )
}
"""By data set."""

BRIEF: Final = Patience(timeout=15.0, tries=2)
"""An addition is not worth a long wait."""


@dataclass(frozen=True)
class Added:
    """What became of an addition.

    Attributes:
        addition: the file.
        path: where it lies, or would.
        state: `present`: it was here; `other`: a file of this name and another content was; `fetched`; `failed`.
        why: why it failed, in one line; None otherwise.
    """

    addition: Addition
    path: Path
    state: Literal["present", "other", "fetched", "failed"]
    why: str | None = None


def fetch_addition(
    addition: Addition,
    root: Path,
    *,
    patience: Patience = BRIEF,
    log: Callable[[str], None] | None = None,
) -> Added:
    """Fetch the file, unless one of its name is here: that is left as it is.

    Args:
        addition: what to fetch.
        root: the folder that holds the data sets.
        patience: time-out and tries.
        log: called with a sentence at each new try.
    """
    path = root / addition.dataset / addition.file
    if path.is_file():
        return Added(addition, path, "present" if sha256_of(path) == addition.sha256 else "other")
    downloads = root / "downloads"
    try:
        for folder in (downloads, path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        draft = downloads / f"{addition.dataset}-{addition.file}"
        if draft.is_file():  # of a command that was killed between the two steps
            draft.unlink()
        download(addition.url, draft, limit=2 * addition.size, sha256=addition.sha256, patience=patience, log=log)
        draft.replace(path)
    except DataError as error:
        return Added(addition, path, "failed", error.what)
    except OSError as error:
        return Added(addition, path, "failed", error.strerror or str(error))
    return Added(addition, path, "fetched")
