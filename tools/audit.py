"""List the licence and version of every dependency, search `src` for whatever unpickles; exit with 1 on a fault.

    python tools/audit.py             # all installed dependencies of dkgzsl and of its extras
    python tools/audit.py --bounds    # the versions only: each within the bounds of pyproject.toml

A fault is: a licence that is copyleft beyond LGPL and MPL, or unknown, and has no reason in `REASONS`; a version
outside the bounds of pyproject.toml; a line of `src` that can run code from a file (`UNSAFE`). Licences are what
the packages say of themselves (`License-Expression`, else classifiers, else `License`); what is not installed is
named, and not rated. What a package's wheel holds of others is known only where `REASONS` says so.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CORE = "(always)"
"""Stands for the extra where a dependency needs none."""

REASONS: Mapping[str, str] = {
    "pillow-heif": "its wheel holds x265 (GPL-2.0) and libheif (LGPL); it comes with the extra `heic` alone",
    "docutils": "public domain and BSD; the GPL holds for a mode for Emacs alone, which the wheel does not have",
    "nvidia-*": "NVIDIA's own licence; libraries for GPUs that torch asks for on Linux, loaded by torch alone",
    "cuda-*": "NVIDIA's own licence; libraries for GPUs that torch asks for on Linux, loaded by torch alone",
}
"""Packages (as a pattern) whose licence is strong copyleft, its own or unknown, and why they may be there."""
HOLDS: Mapping[str, str] = {"pillow-heif": "x265: GPL-2.0"}
"""What a package's wheel holds under another licence than its own."""

_STRONG = re.compile(r"\b(?:A?GPL|SSPL|EUPL|OSL|CC-BY-(?:NC|SA)\S*|GNU (?:Affero )?General Public)", re.I)
_WEAK = re.compile(r"\bL-?GPL|Lesser General Public|\bMPL|Mozilla Public", re.I)
_FREE = re.compile(
    r"\b(?:MIT|BSD|Apache|ISC|PSF|Python Software Foundation|HPND|CNRI|Unlicense|0BSD|CC0|Zlib|Boost|BSL-1|CMU|"
    r"Unicode|Matplotlib|PIL|Public Domain)",
    re.I,
)
UNSAFE = ("pickle", "cPickle", "joblib", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle")
"""Modules that can run code from a file."""


@dataclass
class Found:
    """A dependency: what it says of itself, and which extras bring it."""

    name: str
    version: str | None
    licence: str
    extras: set[str] = field(default_factory=set)

    @property
    def kind(self) -> str:
        """`free`, `weak` (LGPL, MPL), `strong` (copyleft beyond these) or `unknown`."""
        return kind_of(" and ".join(filter(None, [self.licence, HOLDS.get(self.name)])))

    @property
    def reason(self) -> str | None:
        """Why a strong or unknown licence may be there."""
        return next((why for pattern, why in REASONS.items() if fnmatch(self.name, pattern)), None)

    @property
    def fault(self) -> bool:
        """Whether the licence may not be there."""
        return self.version is not None and self.kind in ("strong", "unknown") and self.reason is None


def kind_of(licence: str) -> str:
    """The kind of a licence, from its name. Of `A OR B` the freer one counts, of `A AND B` the stricter one."""
    order = ("free", "weak", "unknown", "strong")

    def of_one(text: str) -> str:
        rest = _WEAK.sub(" ", text)
        if _STRONG.search(rest):
            return "strong"
        return "weak" if _WEAK.search(text) else "free" if _FREE.search(rest) else "unknown"

    parts = [re.split(r"\s+OR\s+", part, flags=re.I) for part in re.split(r"\s+AND\s+|;", licence, flags=re.I)]
    return max((min(map(of_one, one), key=order.index) for one in parts), key=order.index)


def licence_of(package: Distribution) -> str:
    """The licence that a package says it has; empty where it says none."""
    given = package.metadata
    if expression := given.get("License-Expression"):
        return str(expression)
    names = [
        one.rpartition(" :: ")[2] for one in given.get_all("Classifier") or [] if one.startswith("License ::")
    ]
    names = [name for name in names if name != "OSI Approved"]
    lines = (given.get("License") or "").strip().splitlines()
    return "; ".join(names) or (lines[0].strip() if lines else "")


def wanted(root: Path = ROOT) -> dict[str, list[Requirement]]:
    """Requirements of pyproject.toml by the extra; `CORE` where they need none."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    given = {CORE: project["dependencies"], **project["optional-dependencies"]}
    return {extra: [Requirement(one) for one in lines] for extra, lines in given.items()}


def dependencies(requirements: Mapping[str, Sequence[Requirement]]) -> list[Found]:
    """All dependencies, and theirs, by name."""
    found: dict[str, Found] = {}
    for extra, first in requirements.items():
        waiting, done = list(first), set()
        while waiting:
            one = waiting.pop()
            name = canonicalize_name(one.name)
            if (name, *sorted(one.extras)) in done:
                continue
            done.add((name, *sorted(one.extras)))
            try:
                package = distribution(name)
            except PackageNotFoundError:
                found.setdefault(name, Found(name, None, "")).extras.add(extra)
                continue
            found.setdefault(name, Found(name, package.version, licence_of(package))).extras.add(extra)
            waiting += _needs(package, one.extras)
    return sorted(found.values(), key=lambda one: one.name)


def _needs(package: Distribution, extras: set[str]) -> Iterator[Requirement]:
    for line in package.requires or []:
        try:
            one = Requirement(line)
        except InvalidRequirement:  # of an old package
            continue
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield one


def outside(requirements: Mapping[str, Sequence[Requirement]]) -> list[str]:
    """Each installed package whose version pyproject.toml does not allow."""
    faults = {}
    for one in (one for lines in requirements.values() for one in lines):
        try:
            version = distribution(one.name).version
        except PackageNotFoundError:
            continue
        if not one.specifier.contains(version, prereleases=True):
            faults[f"{one.name} {version} is installed; pyproject.toml asks for {one.specifier}"] = None
    return list(faults)


def unsafe_lines(folder: Path) -> list[str]:
    """Lines of the Python files in a folder that can run code from a file."""
    return [
        f"{file.relative_to(folder)}:{getattr(node, 'lineno', 0)}: {what}"
        for file in sorted(folder.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (what := _unsafe(node))
    ]


def _unsafe(node: ast.AST) -> str | None:
    modules = []
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        modules = [node.module or ""]
        if (node.module or "") in ("torch", "numpy", "yaml", "pandas"):
            loads = [alias.name for alias in node.names if _LOADS.fullmatch(f"{node.module}.{alias.name}")]
            if loads:
                return f"from {node.module} import {', '.join(loads)}: call it with the module's name"
    for module in modules:
        if module.split(".")[0] in UNSAFE:
            return f"import {module}"
    return _unsafe_call(node) if isinstance(node, ast.Call) else None


_LOADS = re.compile(
    r"(?:torch|np|numpy|yaml)\.load|yaml\.(?:unsafe_load|full_load)(?:_all)?|yaml\.load_all|(?:pd|pandas)\.read_pickle|"
    r"torch\.hub\.load\w*|importlib\.import_module"
)


def _unsafe_call(call: ast.Call) -> str | None:
    name = ast.unparse(call.func)
    given = {one.arg: ast.unparse(one.value) for one in call.keywords if one.arg}
    if name == "importlib.import_module" and call.args and isinstance(call.args[0], ast.Constant):
        module = str(call.args[0].value)
        return f"import_module({module!r})" if module.split(".")[0] in UNSAFE else None
    if name == "torch.load":
        return None if given.get("weights_only") == "True" else "torch.load without weights_only=True"
    if name in ("np.load", "numpy.load"):
        return None if given.get("allow_pickle") == "False" else f"{name} without allow_pickle=False"
    unsafe = _LOADS.fullmatch(name) and name != "importlib.import_module"
    return f"{name} can run code" if unsafe or given.get("allow_pickle") == "True" else None


def main() -> int:
    """Print what was found; 1 where there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bounds", action="store_true", help="only compare versions with pyproject.toml")
    options = parser.parse_args()
    requirements = wanted()
    faults = outside(requirements)
    if not options.bounds:
        packages = dependencies(requirements)
        for one in packages:
            there = one.version or "not installed"
            holds = f" (holds {HOLDS[one.name]})" if one.name in HOLDS else ""
            extras = ", ".join(sorted(one.extras))
            print(f"{one.name:<26} {there:<16} {one.licence[:50] or '-'}{holds}  [{extras}]")
        print()
        for one in packages:
            if one.version and one.kind in ("strong", "unknown") and one.reason:
                print(f"{one.name}: {one.kind} licence, allowed: {one.reason}")
        faults += [
            f"{one.name} {one.version}: {one.kind} licence ({one.licence or 'none is said'}) from the extra "
            f"{', '.join(sorted(one.extras))}: do without it, or give a reason in tools/audit.py"
            for one in packages
            if one.fault
        ]
        faults += [f"src/{line}" for line in unsafe_lines(ROOT / "src")]
        print(
            f"{len(packages)} dependencies, {sum(one.version is None for one in packages)} of them not installed"
        )
    for text in faults:
        print(f"fault: {text}", file=sys.stderr)
    print(f"{len(faults)} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
