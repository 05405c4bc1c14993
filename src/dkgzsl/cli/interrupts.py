"""Ctrl-C and SIGTERM: every verb ends within two seconds, says how to go on, and leaves no child process.

The first signal raises KeyboardInterrupt, so that the verb can put away what it holds. A library may be in the
middle of a long computation, where Python does not get to raise anything; so a thread, which the operating system
wakes, ends the process when `_PATIENCE` seconds are over, or at the second signal. Nothing is lost by that: every
file is written as a draft that gets its name when it is whole.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final

from dkgzsl.writing import how_to_go_on

CODES: Final = {signal.SIGINT: 130, signal.SIGTERM: 143}
_PATIENCE: Final = 1.2
_GOES_ON: Final = "what is done is kept: the same command goes on"
_WRITERS: Final = {
    **dict.fromkeys(("extract", "benchmark", "tune", "reproduce", "data fetch"), _GOES_ON),
    **dict.fromkeys(
        ("add-class", "remove-class", "adapt"), "the run's versions are whole: give the command again"
    ),
}
_AGAIN: Final = "nothing is left half-written: give the same command again"


class Terminated(KeyboardInterrupt):
    """SIGTERM: whatever handles Ctrl-C handles it, too."""


class Interrupts:
    """What became of signals while a command runs.

    Attributes:
        verb: what runs, for the message; "" until it is known.
        code: exit code of the signal that arrived; None: none did.
    """

    def __init__(self) -> None:
        self.verb = ""
        self.code: int | None = None
        self._said = False

    def begin(self) -> None:
        """Take the signals over; in another thread than the main one, or on Windows, they stay as they are."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
            return
        wakes, writes = os.pipe()
        os.set_blocking(writes, False)
        signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
        for number in CODES:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` and `&` in a script leave it
                signal.signal(number, self._raise)
        threading.Thread(target=self._watch, args=(wakes,), daemon=True, name="dkgzsl-signals").start()

    def _raise(self, number: int, _frame: FrameType | None) -> None:
        self.code = self.code or CODES[signal.Signals(number)]
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def _watch(self, wakes: int) -> None:
        while (number := os.read(wakes, 1)) and number[0] not in list(CODES):
            pass
        if number:
            self.code = self.code or CODES[signal.Signals(number[0])]
            select.select([wakes], [], [], _PATIENCE)  # until the second signal at most
            with suppress(OSError):
                if not self._said:
                    os.write(2, f"\n{self.message(None)}\n".encode())
            self.end()

    def message(self, error: BaseException | None) -> str:
        """What is said to the user: that the command ends, and how to go on."""
        notes = getattr(error, "__notes__", None) or how_to_go_on()[:1] or [_WRITERS.get(self.verb, _AGAIN)]
        self._said = self._said or error is not None
        return f"interrupted\n{notes[-1]}"

    def code_after(self, code: int) -> int:
        """The exit code of a command that has ended by itself; after a signal the process ends here.

        Without Python's own end, which waits for threads and takes a second when torch is there.
        """
        if self.code is not None:
            util = sys.modules.get("multiprocessing.util")
            if util is not None:
                end_children()
                util._run_finalizers()  # they give semaphores back
            self.end()
        return code

    def end(self) -> None:
        """End the process at once, and its children with it."""
        end_children()
        for stream in (sys.stdout, sys.stderr):  # a stream that somebody put in place may hold lines back
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(self.code or 130)


def end_children() -> None:
    """Kill the child processes, but for the one that removes semaphores: it ends when this process has."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    tracker = getattr(getattr(module, "_resource_tracker", None), "_pid", None)
    for child in _children():
        if child != tracker:
            with suppress(OSError):
                os.kill(child, signal.SIGKILL)


def _children() -> set[int]:
    found: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found.update(map(int, file.read_text().split()))
    if "multiprocessing" in sys.modules:  # where there is no /proc
        import multiprocessing

        found.update(child.pid for child in multiprocessing.active_children() if child.pid is not None)
    return found
