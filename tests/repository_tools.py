"""The tools of the repository, which are no part of the package, as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load_tool(name: str) -> ModuleType:
    """`tools/NAME.py`."""
    spec = importlib.util.spec_from_file_location(
        f"dkgzsl_{name}", Path(__file__).parents[1] / "tools" / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module
