"""The audit of licences, versions and whatever unpickles (tools/audit.py)."""

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from repository_tools import load_tool

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools" / "audit.py"


audit = load_tool("audit")


def test_what_is_installed_passes() -> None:
    ended = subprocess.run([sys.executable, str(TOOL)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    version = distribution("numpy").version
    assert any(line.split()[:2] == ["numpy", version] for line in ended.stdout.splitlines())
    assert "\n0 faults\n" in ended.stdout


@pytest.mark.parametrize(
    ("licence", "kind"),
    [
        ("MIT", "free"),
        ("BSD-3-Clause AND 0BSD AND Zlib", "free"),
        ("Python Software Foundation License", "free"),
        ("Mozilla Public License 2.0 (MPL 2.0)", "weak"),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", "weak"),
        ("GNU Lesser General Public License v3 (LGPLv3)", "weak"),
        ("GPL-3.0-or-later", "strong"),
        ("GPLv3", "strong"),
        ("GNU General Public License v2 (GPLv2)", "strong"),
        ("GNU Affero General Public License v3", "strong"),
        ("AGPL-3.0-only", "strong"),
        ("GPL-2.0-only OR MIT", "free"),
        ("MIT AND GPL-2.0-only", "strong"),
        ("MIT; GPLv2", "strong"),
        ("LicenseRef-NVIDIA-Proprietary", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_kind_of_a_licence(licence: str, kind: str) -> None:
    assert audit.kind_of(licence) == kind


def test_a_strong_or_unknown_licence_needs_a_reason(monkeypatch) -> None:
    assert audit.Found("somebodys", "1.0", "GPL-3.0").fault
    assert audit.Found("somebodys", "1.0", "").fault
    assert not audit.Found("somebodys", None, "").fault, "not installed: not known"
    heic = audit.Found("pillow-heif", "1.0", "BSD-3-Clause", {"heic"})
    assert (heic.kind, heic.fault) == ("strong", False), "x265 is in its wheel"
    monkeypatch.setattr(audit, "REASONS", {})
    assert heic.fault


def test_the_strong_package_comes_with_its_extra_alone() -> None:
    extras = {one.name: one.extras for one in audit.dependencies(audit.wanted())}
    assert extras["pillow-heif"] == {"heic"}
    assert audit.CORE in extras["numpy"]
    assert "mpmath" in extras, "what a dependency of a dependency needs"


def test_versions_outside_the_bounds_are_named() -> None:
    version = distribution("numpy").version
    given = {"(always)": [Requirement("numpy>=999"), Requirement("scipy>=1"), Requirement("not-there>=1")]}
    assert audit.outside(given) == [f"numpy {version} is installed; pyproject.toml asks for >=999"]


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import load",
        "import joblib",
        "from joblib import load",
        "import torch; torch.load('a')",
        "import torch; torch.load('a', weights_only=False)",
        "from torch import load",
        "import numpy as np; np.load('a')",
        "import numpy as np; np.load('a', allow_pickle=True)",
        "import numpy; numpy.lib.format.read_array(f, allow_pickle=True)",
        "import yaml; yaml.load(f, yaml.Loader)",
        "import yaml; yaml.load_all(f)",
        "import yaml; yaml.unsafe_load(f)",
        "import pandas as pd; pd.read_pickle('a')",
        "def f():\n    import importlib\n    importlib.import_module('pickle')",
    ],
)
def test_whatever_unpickles_is_found(tmp_path, line: str) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "code.py").write_text(line + "\n")
    (found,) = audit.unsafe_lines(tmp_path)
    assert found.startswith("deeper/code.py:")


def test_safe_readers_pass(tmp_path) -> None:
    lines = ["import torch, numpy as np, yaml", "torch.load('a', weights_only=True)", "yaml.safe_load('a')"]
    lines += ["np.load('a', mmap_mode='r', allow_pickle=False)", "# pickle.load", "text = 'import pickle'"]
    (tmp_path / "code.py").write_text("\n".join(lines))
    assert audit.unsafe_lines(tmp_path) == []


def test_the_package_unpickles_nothing() -> None:
    assert audit.unsafe_lines(ROOT / "src") == []
