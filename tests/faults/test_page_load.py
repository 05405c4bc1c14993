"""The page under load: the short form of `experiments/page_load.py`, in a process of its own on loopback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "page_load.py"


@pytest.mark.long
def test_the_page_under_a_little_load() -> None:
    """20 clients for 5 s, a fifth of the requests malformed; the long form is in docs/reliability.md."""
    pytest.importorskip("PIL", reason="the extra `app` is not installed")
    words = ["--clients", "20", "--seconds", "5", "--malformed", "0.2", "--keep", "2", "--json"]
    ended = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    found = json.loads(ended.stdout)
    assert found["failed"] == []
    assert found["served"] > 3
    assert max(found["slowest"], found["refusal_slowest"]) <= 10
    assert found["files_left"] == found["tracebacks"] == 0
    assert found["memory_after"] <= 1.1 * found["memory_before"]
    assert not [kind for kind in found["malformed"] if kind.endswith((": 500", ": served")) or "Error" in kind]
