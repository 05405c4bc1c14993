"""Write `docs/cli.md` from the parser itself.

    python tools/cli_reference.py [--check]

Each verb has the help that `dkgzsl VERB --help-all` prints; the settings of the methods, which several verbs take,
stand once, at the end. With `--check` nothing is written: the exit code is 1 where the page is not current.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from pathlib import Path

from dkgzsl.cli.main import VERBS
from dkgzsl.cli.main import main as dkgzsl

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
_HEAD = """# Command line

Every verb takes `--help` (the options that most people need) and `--help-all` (all of them). `--config FILE` reads
any of these settings from YAML, under the same names; flags override it. Exit codes: 0 done, 2 a mistake that the
message explains, 130 interrupted.

This page is made by `python tools/cli_reference.py` from the parser.
"""
_SETTINGS = "\nSettings of "


def help_of(verb: str) -> tuple[str, str]:
    """The help of a verb, and the settings of methods that it ends with."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = dkgzsl([*verb.split(), "--help-all"])
    if code:
        raise SystemExit(f"dkgzsl {verb} --help-all ended with {code}")
    text = said.getvalue().strip() + "\n"
    own, separator, settings = text.partition(_SETTINGS)
    examples = settings.rpartition("\nExamples:")
    if separator and examples[1]:
        own, settings = f"{own.rstrip()}\n\nExamples:{examples[2]}", examples[0]
    return own, (separator + settings).strip()


def page() -> str:
    """The whole page."""
    parts, settings = [_HEAD], ""
    for verb in sorted(VERBS):
        own, of_methods = help_of(verb)
        settings = of_methods if verb == "train" else settings
        parts.append(f"## dkgzsl {verb}\n\n```text\n{own.rstrip()}\n```\n")
    about = "`train` has these for the method that it runs, `benchmark`, `tune` and `reproduce` for each method."
    parts.append(f"## Settings of the methods\n\n{about}\n\n```text\n{settings}\n```\n")
    return "\n".join(parts)


def main() -> None:
    """Write the page, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    os.environ["COLUMNS"] = "100"  # before the help of the parser itself, too
    given = parser.parse_args()
    found = page()
    if given.check:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != found:
            print("docs/cli.md is not current: python tools/cli_reference.py")
            sys.exit(1)
        return
    PAGE.write_text(found, encoding="utf-8")


if __name__ == "__main__":
    main()
