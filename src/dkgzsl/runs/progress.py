"""Progress on standard error: a bar with rate and time left on a terminal, quiet elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Count(ProgressColumn):
    """How many steps are done, and of how many where that is known: `12 of 60`, `12`."""

    def render(self, task: Task) -> Text:
        done = f"{int(task.completed):,}"
        if task.total is None:
            return Text(done if task.completed else "", style="progress.download")
        return Text(f"{done} of {int(task.total):,}", style="progress.download")


class Reporter:
    """Says where the work stands.

    Args:
        quiet: no bars; messages that users must see are still printed.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        shown = not quiet and sys.stderr.isatty()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            _Count(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not shown,
        )
        self._task: TaskID | None = None
        self._name: str | None = None

    def __enter__(self) -> Reporter:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def log(self, message: str) -> None:
        """A message that users must see, bars or not."""
        self.console.print(message, markup=False, soft_wrap=True)

    def stage(self, name: str, total: int | None) -> None:
        """Begin a stage of `total` steps (None: unknown), in place of the one before."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=total, note="")
        self._name = name

    def reach(self, name: str, done: int, total: int | None, note: str = "") -> None:
        """`done` of `total` steps of the stage `name`, which begins where another one is shown.

        So the bar shows the true position of a resumed training, whose first step here is not step 1.
        """
        if self._name != name:
            self.stage(name, total)
        if self._task is not None:
            self._progress.update(self._task, completed=done, note=note)

    def advance(self, note: str = "") -> None:
        """One step of the stage is done."""
        if self._task is not None:
            self._progress.update(self._task, advance=1, note=note)
