"""Where data lies on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def data_root(given: str | Path | None = None) -> Path:
    """The folder that holds the data sets, there or not.

    `given` where it is; else `data` in the folder that the environment variable DKGZSL_HOME names; else
    `dkgzsl/data` in the user's cache folder (XDG_CACHE_HOME, or ~/.cache).
    """
    if given is not None:
        return Path(given).expanduser()
    if home := os.environ.get("DKGZSL_HOME"):
        return Path(home).expanduser() / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dkgzsl" / "data"
