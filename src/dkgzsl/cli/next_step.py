"""What to type next, as a command that runs as it is printed."""

from __future__ import annotations

import shlex

WIDTH = 10


def command(*words: str) -> str:
    """A command of this package, its words quoted for a shell where they need it.

    Args:
        words: the verb, then its arguments.
    """
    return shlex.join(["dkgzsl", *words])


def next_line(line: str) -> str:
    """The last line of a verb's output: `next`, then a command and nothing else."""
    return f"{'next':<{WIDTH}} {line}"
