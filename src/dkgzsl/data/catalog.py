"""What is known of the field's six benchmark data sets: official counts, sources, licences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from dkgzsl.errors import DataError, nearest
from dkgzsl.files import home_folder


def data_root(given: str | Path | None = None) -> Path:
    """The folder that holds the data sets, there or not.

    `given` where it is; else `data` in the folder that the environment variable DKGZSL_HOME names; else
    `dkgzsl/data` in the user's cache folder (XDG_CACHE_HOME, or ~/.cache).
    """
    return home_folder() / "data" if given is None else Path(given).expanduser()


@dataclass(frozen=True)
class KnownDataset:
    """One benchmark data set, with the counts of its official split (proposed splits, version 2).

    Attributes:
        name: the folder's name in the xlsa17 layout, also the name on the command line.
        title: what it is, for people.
        images: images in all; the three parts together.
        train_classes: seen classes that are no validation classes.
        validation_classes: seen classes that the official split names for validation.
        unseen_classes: classes without a training image.
        trainval: images for training and validation.
        test_seen: test images of seen classes.
        test_unseen: test images of unseen classes.
        attributes: size of the descriptions in `att_splits.mat`.
        sentences: size of the descriptions in `sent_splits.mat`, where the field uses such a file.
        image_source: the official name of the image archive, and who publishes it.
        image_page: the page of the images' authors.
        licence: the terms of the images, in a few words.
    """

    name: str
    title: str
    images: int
    train_classes: int
    validation_classes: int
    unseen_classes: int
    trainval: int
    test_seen: int
    test_unseen: int
    attributes: int
    sentences: int | None
    image_source: str
    image_page: str
    licence: str

    @property
    def seen_classes(self) -> int:
        """Classes with training images."""
        return self.train_classes + self.validation_classes

    @property
    def classes(self) -> int:
        """Classes in all."""
        return self.seen_classes + self.unseen_classes


ARCHIVE: Final = "xlsa17.zip"
"""The archive that holds all of them but FLO in the xlsa17 layout: ResNet-101 features, proposed splits 2.0."""
ARCHIVE_PAGE: Final = (
    "https://www.mpi-inf.mpg.de/departments/computer-vision-and-machine-learning/research/"
    "zero-shot-learning/zero-shot-learning-the-good-the-bad-and-the-ugly"
)
"""The page of its authors (Xian, Lampert, Schiele, Akata; Max Planck Institute for Informatics)."""

_TABLE: Final = (
    KnownDataset(
        name="AWA1",
        title="Animals with Attributes",
        images=30475,
        train_classes=27,
        validation_classes=13,
        unseen_classes=10,
        trainval=19832,
        test_seen=4958,
        test_unseen=5685,
        attributes=85,
        sentences=None,
        image_source="Animals with Attributes (features only: the images are no longer given out)",
        image_page="https://cvml.ist.ac.at/AwA/",
        licence="features only; images withdrawn for copyright",
    ),
    KnownDataset(
        name="AWA2",
        title="Animals with Attributes 2",
        images=37322,
        train_classes=27,
        validation_classes=13,
        unseen_classes=10,
        trainval=23527,
        test_seen=5882,
        test_unseen=7913,
        attributes=85,
        sentences=None,
        image_source="AwA2-data.zip (Xian, Lampert, Schiele, Akata; IST Austria)",
        image_page="https://cvml.ist.ac.at/AwA2/",
        licence="free licences, one for each image",
    ),
    KnownDataset(
        name="CUB",
        title="Caltech-UCSD Birds-200-2011",
        images=11788,
        train_classes=100,
        validation_classes=50,
        unseen_classes=50,
        trainval=7057,
        test_seen=1764,
        test_unseen=2967,
        attributes=312,
        sentences=1024,
        image_source="CUB_200_2011.tgz (Wah et al., Caltech)",
        image_page="https://www.vision.caltech.edu/datasets/cub_200_2011/",
        licence="non-commercial research",
    ),
    KnownDataset(
        name="SUN",
        title="SUN Attribute",
        images=14340,
        train_classes=580,
        validation_classes=65,
        unseen_classes=72,
        trainval=10320,
        test_seen=2580,
        test_unseen=1440,
        attributes=102,
        sentences=None,
        image_source="SUNAttributeDB_Images.tar.gz (Patterson and Hays, Brown University)",
        image_page="https://cs.brown.edu/~gmpatter/sunattributes.html",
        licence="research",
    ),
    KnownDataset(
        name="FLO",
        title="Oxford Flowers 102",
        images=8189,
        train_classes=62,
        validation_classes=20,
        unseen_classes=20,
        trainval=5631,
        test_seen=1403,
        test_unseen=1155,
        attributes=1024,
        sentences=None,
        image_source="102flowers.tgz (Nilsback and Zisserman, Oxford)",
        image_page="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        licence="research",
    ),
    KnownDataset(
        name="APY",
        title="Attribute Pascal and Yahoo",
        images=15339,
        train_classes=15,
        validation_classes=5,
        unseen_classes=12,
        trainval=5932,
        test_seen=1483,
        test_unseen=7924,
        attributes=64,
        sentences=None,
        image_source="aPascal and aYahoo (Farhadi et al., University of Illinois)",
        image_page="https://vision.cs.uiuc.edu/attributes/",
        licence="research",
    ),
)

KNOWN: Final[Mapping[str, KnownDataset]] = MappingProxyType({entry.name: entry for entry in _TABLE})
"""The benchmark data sets by name."""


def known(name: str) -> KnownDataset | None:
    """The data set of that name, upper or lower case; None where it is not one of them."""
    return KNOWN.get(name.upper())


def lookup(name: str) -> KnownDataset:
    """The data set of that name, upper or lower case.

    Raises:
        DataError: it is not one of them; the message names the nearest.
    """
    entry = known(name)
    if entry is None:
        raise DataError(f"unknown data set {name!r}", fix=nearest(name, KNOWN, of="known data sets"))
    return entry


DEFAULT_FEATURES: Final = "res101"
"""The feature file that is used where none is named."""
_FILE_OF_BACKBONE: Final = {"resnet101": DEFAULT_FEATURES, "vit-b/16": "vit_b16"}


def features_of(backbone: str | None) -> str:
    """The name that a backbone's feature file has by custom: resnet101 -> res101, vit-b/16 -> vit_b16."""
    if backbone is None:
        return DEFAULT_FEATURES
    return _FILE_OF_BACKBONE.get(backbone.lower(), backbone.lower().replace("/", "").replace("-", "_"))


def backbone_of(file: Path) -> str | None:
    """The backbone that a feature file's name stands for by custom; None for other names."""
    return next((backbone for backbone, name in _FILE_OF_BACKBONE.items() if name == file.stem), None)
