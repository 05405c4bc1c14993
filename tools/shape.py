"""Count what the design of the package promises, and exit with 1 where a goal is missed.

    python tools/shape.py [--words]

Printed, from the text of the files alone (nothing is imported):

- files to read: the modules of `methods` and `representation` that a method's own module imports, directly or not,
  itself included; without `__init__.py`, and without the modules that serve every method (`SHARED`);
- sizes: files of fewer than 60 lines (without `__init__.py`), files of more than 400, functions of more than 60;
- import circles, and imports of a higher floor by a lower one, in the order of `FLOORS`; imports inside functions
  and under TYPE_CHECKING count;
- words that the package has replaced by the field's terms (`WORDS`), also in README, docs, examples and
experiments,
  with the exceptions in `ALLOWED`; `--words` prints each line that has one.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

NAME = "dkgzsl"
ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / NAME
PROSE = (ROOT / "README.md", ROOT / "docs", ROOT / "examples", ROOT / "experiments")

FLOORS: Sequence[Collection[str]] = (
    {"errors"},
    {"reading"},
    {"compatibility"},
    {"display"},
    {"cache", "memory"},
    {"device", "launch", "repeated"},
    {"writing"},
    {"distributed"},
    {"files"},
    {"checksums"},
    {"cluster"},
    {"config"},
    {"features"},
    {"data", "methods"},
    {"representation"},
    {"evaluation"},
    {"report"},
    {"runs"},
    {"benchmark", "plots"},
    {"inference"},
    {"estimator"},
    {"app"},
    {"cli"},
    {"", "__main__"},
)
"""Modules and folders from the ground up; two of one floor may not import each other. "" is the package itself."""

SHARED = {"methods.base", "methods.adaptation", "methods.cuts", "methods.registry", "methods.search"}
"""Modules that serve every method: read once, not counted for each."""
ENTRIES: Mapping[str, tuple[tuple[str, ...], int]] = {
    "dkgzsl": (("methods.dkgzsl.method",), 9),
    "closed-form": (("methods.closed_form.method", "methods.closed_form.softmax"), 15),
    "SOVR": (("representation.representation",), 10),
    "f-clswgan": (("methods.peers.f_clswgan",), 12),
}
"""Modules that reading starts from, and the most files that it may take."""
MOST_SHORT, SHORT, LONG, LONG_FUNCTION = 25, 60, 400, 60

WORDS: Mapping[str, str] = {
    "judge": r"\bjudg\w*",
    "look": r"\blook(?:s|ed|ing)?\b(?! up| like| for\b)|looks\.jsonl",
    "told, tells": r"\btold\b|\btells\b",
    "examination": r"\bexaminations?\b",
    "begun=, say=": r"\bbegun=|\bsay=|\bsay: ?Callable|\bsay\(",
    "beside": r"\bbeside\b",
    "side by side": r"\bside[ -]by[ -]side\b|SideBySide",
    "shelf": r"\bshel(?:f|ves)\b",
    "acquaintance": r"\bacquaint\w*",
    "answer": r"\banswer(?:s|ed)?\b",
    "attended": r"\battended\b",
    "canvas": r"\bcanvas\b",
    "travel": r"\btravel\w*",
    "scrub": r"\bscrub\w*",
    "sharpen": r"\bsharpen\w*",
    "memo": r"\bmemo\b|kept_weights",
    "makers": r"\bmakers?\b",
    "home": r"\bdata\.home\b|\bimport home\b",
    "either_length": r"either_length",
    "fit of an image": r"\"fit\":|\bfits, fit\(|\bimport fit\b",
    "tells right": r"\b(?:tell|call|get)s? (?:it |them )?right\b|\btold right\b",
    "--variant, --classifier": r"--variant\b|(?<![\w.-])--classifier\b",
}
"""What HOUSE.md's table names in its left column, each as a regular expression without regard to case."""
ALLOWED: Sequence[tuple[str, str, str]] = (
    ("compatibility.py", r".", "names what older versions wrote, by the words of those versions"),
    ("report/record/record.py", r"\"(?:answers|acquaintance|attended)", "keys that older versions wrote"),
    ("inference/hub/package.py", r"\"dkgzsl travelling run 1\"", "a format that older versions wrote"),
    ("data/fetching/*.py", r"\banswer", "a server answers a request: HTTP's own word"),
    ("inference/hub/*.py", r"\banswer", "a server answers a request: HTTP's own word"),
    ("*.py", r"\blook at the (?:data|features)", "a hint that asks a person to look at data"),
    ("runs/model_card.py", r"\bnobody looks\b", "people look at what a model decides"),
    ("features/weights.py", r"\blooks (?:into|there)", "a library looks into its cache"),
)
"""Files (as a pattern), lines (as a regular expression), and why they may use a word of `WORDS`."""


@dataclass(frozen=True)
class Package:
    """The modules of a package by name, relative to it ("" is the package itself).

    Attributes:
        root: folder of the package.
        files: file of each module.
    """

    root: Path
    files: Mapping[str, Path]

    @classmethod
    def read(cls, root: Path = SOURCE) -> Package:
        """The package in a folder."""
        files = {}
        for file in sorted(root.rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
        return cls(root, files)

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """Each module's syntax tree."""
        return {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in self.files.items()}

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Which modules of the package each module imports, wherever the statement stands."""
        return {name: set(self._imported(name)) - {name} for name in self.files}

    def _imported(self, module: str) -> Iterator[str]:
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name != NAME:  # what is used of the package itself counts, below
                        yield from self._inside(alias.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == NAME:
                yield from self._used(NAME, node.attr)
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(module, node)
                for alias in node.names:
                    yield from self._used(origin, alias.name)

    def _used(self, origin: str, name: str) -> list[str]:
        """The module that a name of another module is, or comes from."""
        if (origin, name) == (NAME, "__version__"):  # a constant of the package, which imports nothing
            return []
        return self._inside(f"{origin}.{name}") or self._inside(origin)

    def _origin(self, module: str, node: ast.ImportFrom) -> str:
        """The absolute name of what `from ... import` imports from."""
        if not node.level:
            return node.module or ""
        parts = [NAME, *filter(None, module.split("."))]
        up = node.level - (self.files[module].name == "__init__.py")
        return ".".join([*parts[: len(parts) - up], *filter(None, [node.module])])

    def _inside(self, name: str) -> list[str]:
        """The module of that absolute name, where it is one of this package."""
        head, _, rest = name.partition(".")
        return [rest] if head == NAME and rest in self.files else []

    def lines(self, module: str) -> int:
        """Lines of a module's file."""
        return len(self.files[module].read_text(encoding="utf-8").splitlines())


def files_to_read(package: Package, entries: Sequence[str]) -> list[str]:
    """Modules of `methods` and `representation` that are needed to read some modules, these among them."""
    found: list[str] = []
    waiting = list(entries)
    while waiting:
        module = waiting.pop()
        counts = module.startswith(("methods.", "representation.")) and module not in SHARED
        if module in found or not counts:
            continue
        if package.files[module].name != "__init__.py":
            found.append(module)
        waiting += package.imports[module]
    return sorted(found)


def peers(package: Package) -> dict[str, str]:
    """The module of each peer in the registry, by the method's name."""
    registry = package.files["methods.registry"].read_text(encoding="utf-8")
    found = re.findall(rf'"([\w-]+)":\s*"{NAME}\.(methods\.peers\.\w+):INFO"', registry)
    return {name: module for name, module in found if name not in ENTRIES}


def short_files(package: Package) -> list[str]:
    """Modules of fewer than 60 lines."""
    return [m for m, file in package.files.items() if file.name != "__init__.py" and package.lines(m) < SHORT]


def long_files(package: Package) -> list[str]:
    """Modules of more than 400 lines."""
    return [module for module in package.files if package.lines(module) > LONG]


def long_functions(package: Package) -> list[str]:
    """Functions of more than 60 lines, docstrings counted, decorators not."""
    return [
        f"{module}.{node.name} ({_length(node)} lines)"
        for module, tree in package.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _length(node) > LONG_FUNCTION
    ]


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def circles(package: Package) -> list[str]:
    """Sets of modules that import one another, directly or not."""
    reached = {module: _reached(package, module) for module in package.files}
    groups = {
        tuple(sorted(other for other in reached[module] if module in reached[other]))
        for module in package.files
        if module in reached[module]
    }
    return [" <-> ".join(group) for group in sorted(groups)]


def _reached(package: Package, module: str) -> set[str]:
    found: set[str] = set()
    waiting = list(package.imports[module])
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += package.imports[one]
    return found


def arrows_up(package: Package) -> list[str]:
    """Imports of a higher floor, or of another folder of the same floor; and modules that have no floor."""
    floors = {name: floor for floor, names in enumerate(FLOORS) for name in names}
    lost = [f"{module} has no floor" for module in package.files if module.split(".")[0] not in floors]
    if lost:
        return lost
    found = []
    for module, imported in package.imports.items():
        own = module.split(".")[0]
        for other in sorted(imported):
            folder = other.split(".")[0]
            if folder != own and floors[folder] >= floors[own]:
                found.append(f"{module} -> {other}")
    return found


@dataclass(frozen=True)
class Word:
    """A line of the source that has a replaced word."""

    word: str
    file: str
    line: int
    text: str


def words(*places: Path) -> list[Word]:
    """Every line of code, settings, templates and pages with a replaced word that no exception allows.

    Args:
        places: files and folders; none: the package, and what is written about it.
    """
    found = []
    files = [file for place in places or (SOURCE, *PROSE) for file in (place, *sorted(place.rglob("*")))]
    for file in files:
        if file.suffix not in {".py", ".yaml", ".j2", ".css", ".js", ".md"} or not file.is_file():
            continue
        excused = [re.compile(line, re.I) for pattern, line, _ in ALLOWED if file.match(pattern)]
        for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if any(one.search(text) for one in excused):
                continue
            for word, pattern in WORDS.items():
                if re.search(pattern, text, re.I):
                    name = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
                    found.append(Word(word, str(name), number, text.strip()))
    return found


@dataclass(frozen=True)
class Count:
    """One line of the output.

    Attributes:
        title: what is counted.
        found: what was found, one entry each.
        goal: the most that may be found; None where there is no goal.
    """

    title: str
    found: Sequence[str]
    goal: int | None

    @property
    def missed(self) -> bool:
        """Whether there is more than the goal allows."""
        return self.goal is not None and len(self.found) > self.goal


def reading_counts(package: Package) -> list[Count]:
    """Files to read for each method."""
    counts = [
        Count(f"files to read, {name}", files_to_read(package, entries), goal)
        for name, (entries, goal) in ENTRIES.items()
    ]
    others = peers(package).items()
    return counts + [Count(f"files to read, {name}", files_to_read(package, [m]), None) for name, m in others]


def all_counts(package: Package) -> list[Count]:
    """Everything that is counted."""
    replaced = [f"{one.word}: {one.file}:{one.line}: {one.text}" for one in words()]
    return [
        *reading_counts(package),
        Count(f"files under {SHORT} lines", short_files(package), MOST_SHORT),
        Count(f"files over {LONG} lines", long_files(package), 0),
        Count(f"functions over {LONG_FUNCTION} lines", long_functions(package), 0),
        Count("import circles", circles(package), 0),
        Count("imports of a higher floor", arrows_up(package), 0),
        Count("replaced words", replaced, 0),
    ]


def main() -> int:
    """Print the counts; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", action="store_true", help="print each line that has a replaced word")
    parser.add_argument("--list", action="store_true", help="print everything that was counted")
    arguments = parser.parse_args()
    counts = all_counts(Package.read())
    for count in counts:
        goal = (
            "no goal" if count.goal is None else f"goal at most {count.goal}{', missed' if count.missed else ''}"
        )
        print(f"{len(count.found):4d}  {count.title} ({goal})")
        of_words = count.title == "replaced words"
        if arguments.list or (arguments.words if of_words else count.missed):
            print("".join(f"        {one}\n" for one in count.found), end="")
    return int(any(count.missed for count in counts))


if __name__ == "__main__":
    sys.exit(main())
