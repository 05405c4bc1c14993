"""Functions that workers of the tests do."""

import os
import time
from pathlib import Path
from typing import Any

from dkgzsl.errors import DataError


def power(common: int, share: int) -> tuple[int, int]:
    return share**common, os.getpid()


def slow(common: float, share: int) -> int:
    time.sleep(common)
    return share


def dies_once(common: str, share: int) -> int:
    """The worker of share 3 ends without a word when it does it for the first time."""
    mark = Path(common) / "died"
    if share == 3 and not mark.exists():
        mark.touch()
        os._exit(1)
    return share * 10


def always_dies(_common: Any, _share: int) -> None:
    os._exit(1)


def refuses(_common: Any, share: int) -> int:
    if share == 2:
        raise DataError("share 2 is bad", where="here", fix="take another")
    return share
