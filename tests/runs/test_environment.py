"""What a run records of where it was made."""

import shutil
import subprocess
from pathlib import Path

import pytest

from dkgzsl.runs.environment import _commit


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_of_the_repository_that_tracks_the_file(tmp_path: Path) -> None:
    """Not of one that happens to lie around it, as a project lies around its virtual environment."""

    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    tracked, foreign = tmp_path / "ours.py", tmp_path / ".venv" / "theirs.py"
    foreign.parent.mkdir()
    tracked.touch()
    foreign.touch()
    git("init", "-q")
    git("add", tracked.name)
    git("commit", "-q", "-m", "one")
    assert _commit(tracked) == git("rev-parse", "HEAD")
    assert _commit(foreign) is None
