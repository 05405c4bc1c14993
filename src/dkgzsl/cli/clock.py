"""Seconds since the process began, as nearly as it can tell."""

from time import perf_counter

_START = perf_counter()  # imported by the entry point before anything slow


def seconds_since_start() -> float:
    """Wall-clock seconds since the command line started."""
    return perf_counter() - _START
