"""The official archives of the benchmark data sets: address, size, terms, and which of their files are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from dkgzsl.data.catalog import ARCHIVE, KNOWN, lookup
from dkgzsl.data.formats.reader import embedded_reader
from dkgzsl.errors import DataError

What = Literal["features", "images"]

GB: Final = 10**9
_CITED: Final = "the address is the one that public code cites; no official sha256 is known"


@dataclass(frozen=True)
class Source:
    """One archive for one data set.

    Attributes:
        dataset: the data set's name, also the folder's name below the data root.
        what: `features` become files in the data set's folder, `images` its folder `images`, and the rest of the
            archive (annotations, licence notes) its folder `annotations`.
        archive: the archive's file name.
        url: where its authors publish it.
        size: bytes of the archive; approximate unless `exact`.
        exact: whether `size` is the true number of bytes.
        unpacked: bytes on disk once unpacked, approximate.
        sha256: of the archive, where several independent parties state the same one.
        inside: the folder inside the archive that is kept.
        required: files that must be in that folder; otherwise it is another archive.
        shared: whether other data sets need the same archive, so that it is kept.
        terms: licence or terms in a sentence.
        note: what could not be confirmed, and other things to know.
    """

    dataset: str
    what: What
    archive: str
    url: str
    size: int
    exact: bool
    unpacked: int
    sha256: str | None
    inside: str
    required: tuple[str, ...]
    shared: bool
    terms: str
    note: str

    @property
    def size_text(self) -> str:
        """The size for people; says when it is approximate."""
        text = f"{self.size / GB:.2f} GB"
        return text if self.exact else f"about {text}"


def _features(name: str, unpacked: int) -> Source:
    return Source(
        dataset=name,
        what="features",
        archive=ARCHIVE,
        url=f"https://datasets.d2.mpi-inf.mpg.de/xian/{ARCHIVE}",
        size=920_000_000,
        exact=False,
        unpacked=unpacked,
        sha256=None,
        inside=f"xlsa17/data/{name}",
        required=("res101.mat", "att_splits.mat"),
        shared=True,
        terms=(
            "given out for research by Xian, Lampert, Schiele and Akata (MPI for Informatics), to be cited; "
            f"no licence text is known to us; the images' terms: {KNOWN[name].licence}"
        ),
        note=f"{_CITED}; one archive for all data sets",
    )


_SOURCES: Final = (
    _features("AWA1", 450_000_000),
    _features("AWA2", 550_000_000),
    _features("CUB", 180_000_000),
    _features("SUN", 220_000_000),
    _features("APY", 230_000_000),
    Source(
        dataset="AWA2",
        what="images",
        archive="AwA2-data.zip",
        url="https://cvml.ista.ac.at/AwA2/AwA2-data.zip",
        size=13 * GB,
        exact=False,
        unpacked=14 * GB,
        sha256=None,
        inside="Animals_with_Attributes2/JPEGImages",
        required=("antelope", "zebra"),
        shared=False,
        terms="free licences, one for each image, as the authors state (Xian, Lampert, Schiele, Akata; IST)",
        note=f"{_CITED}; formerly at cvml.ist.ac.at",
    ),
    Source(
        dataset="CUB",
        what="images",
        archive="CUB_200_2011.tgz",
        url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",
        size=1_150_585_339,
        exact=True,
        unpacked=1_300_000_000,
        sha256="0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
        inside="CUB_200_2011/images",
        required=("001.Black_footed_Albatross", "200.Common_Yellowthroat"),
        shared=False,
        terms="non-commercial research and teaching; the photographers keep their rights (Wah et al., Caltech)",
        note="size and sha256 as several independent users of the archive state them, not its authors",
    ),
    Source(
        dataset="SUN",
        what="images",
        archive="SUNAttributeDB_Images.tar.gz",
        url="https://cs.brown.edu/people/gmpatter/Attributes/SUNAttributeDB_Images.tar.gz",
        size=1_800_000_000,
        exact=False,
        unpacked=2 * GB,
        sha256=None,
        inside="images",
        required=("a",),
        shared=False,
        terms="research; the photographers keep their rights (Patterson and Hays, Brown University)",
        note=f"{_CITED}; formerly below cs.brown.edu/~gmpatter",
    ),
)

SOURCES: Final = {(source.dataset, source.what): source for source in _SOURCES}
"""The official archives by data set and kind."""


def find_source(name: str, what: What) -> Source:
    """The official archive of a data set, its name in upper or lower case.

    Raises:
        DataError: the name is unknown, or no such archive of it is published.
    """
    if embedded_reader(name.lower()) is not None:
        raise DataError(
            f"{name.lower()!r} comes with the package: there is nothing to fetch",
            fix=f"dkgzsl train {name.lower()}",
        )
    entry = lookup(name)
    source = SOURCES.get((entry.name, what))
    if source is None:
        have = ", ".join(dataset for dataset, kind in SOURCES if kind == what)
        raise DataError(
            f"no archive of {entry.name} {what} is published",
            where=f"{entry.image_source}; {entry.image_page}",
            fix=f"put the files into the folder {entry.name} of the data root by hand ({what} exist of: {have})",
        )
    return source
