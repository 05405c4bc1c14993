"""The entry point: finds the verb's module, parses its configuration, and turns errors into sentences."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import dkgzsl.cli.clock  # noqa: F401  (first of all: it starts the clock)
from dkgzsl.cli.interrupts import Interrupts, Terminated
from dkgzsl.errors import DkgzslError, missing_package, nearest
from dkgzsl.launch import follows, launched

# verb -> (what it does, module); the module has a dataclass `Config` and a function `run(config)`.
# Modules are imported when their verb is called, so that help stays quick.
VERBS = {
    "train": ("train a method on a data set, and score the test images", "dkgzsl.cli.train"),
    "evaluate": ("compute a run's figures again from its folder", "dkgzsl.cli.evaluate"),
    "benchmark": ("compare methods over data sets, semantics and seeds", "dkgzsl.cli.benchmark"),
    "tune": ("search for the best settings on your own data", "dkgzsl.cli.tune"),
    "report": ("make the page of a run, or a page that compares several", "dkgzsl.cli.report"),
    "compare": ("print figures of several runs, with paired differences", "dkgzsl.cli.compare"),
    "reproduce": ("run published settings, and compare with published figures", "dkgzsl.cli.reproduce"),
    "extract": ("compute features of images by a backbone; can be resumed", "dkgzsl.cli.extract"),
    "data import": ("make a problem of your own images and descriptions", "dkgzsl.cli.data_import"),
    "data describe": ("make class descriptions from names or sentences", "dkgzsl.cli.data_describe"),
    "data convert": ("convert feature stores from and to other formats", "dkgzsl.cli.data_convert"),
    "synthesize": ("write visual features of classes, made from descriptions", "dkgzsl.cli.synthesize"),
    "predict": ("predict the classes of photos, with probabilities and reasons", "dkgzsl.cli.predict"),
    "add-class": ("add a class by its description, as a new version of a run", "dkgzsl.cli.add_class"),
    "adapt": ("adapt a run to unlabelled photos, as a new version", "dkgzsl.cli.adapt"),
    "remove-class": ("remove a class, as a new version of a run", "dkgzsl.cli.remove_class"),
    "app": ("open a local page to try images and describe new classes", "dkgzsl.cli.app"),
    "export": ("write one ONNX file, from pixels to probabilities", "dkgzsl.cli.export"),
    "push": ("copy a run to a model hub or a folder, without photos", "dkgzsl.cli.push"),
    "pull": ("fetch a pushed run, and verify every file", "dkgzsl.cli.pull"),
    "data list": ("list known data sets, and which are on this machine", "dkgzsl.cli.data_list"),
    "data fetch": ("download a benchmark data set from its official source", "dkgzsl.cli.data_fetch"),
    "data check": ("search a data set for leaks, NaN and other traps", "dkgzsl.cli.data_check"),
    "doctor": ("show versions, device, cache folder and optional extras", "dkgzsl.cli.doctor"),
}


_GROUPS = {
    "Train, compare, choose": ("train", "evaluate", "report", "compare", "benchmark", "tune", "reproduce"),
    "Your own photos": ("data import", "data check", "extract", "data describe", "data convert"),
    "Use what was trained": ("predict", "add-class", "remove-class", "adapt", "synthesize", "app"),
    "Hand it on": ("export", "push", "pull"),
    "Known data sets, this machine": ("data list", "data fetch", "doctor"),
}
"""The verbs as the overview shows them."""
_QUICK = ("data list",)  # prints within two seconds without it

# Threads that wait for each other sleep instead of spinning: on a machine that others use, too, spinning makes
# small products ten times as slow, and on a quiet one it gains little. OpenMP reads it when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 a mistake that the message explains.

    130: Ctrl-C; 143: SIGTERM; 141: the reader of the output has gone.

    Args:
        arguments: the words (default: those of the process, which then takes signals over and ends with them).
    """
    interrupts = Interrupts()
    if arguments is None:
        interrupts.begin()
    try:
        code = _main(list(sys.argv[1:] if arguments is None else arguments), interrupts)
    except KeyboardInterrupt as error:  # the second one, or one between the lines of `_main`
        print(interrupts.message(error), file=sys.stderr)
        code = 130
    return interrupts.code_after(code)


def _main(words: list[str], interrupts: Interrupts) -> int:
    try:
        return _dispatch(words, interrupts)
    except DkgzslError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        print(f"error: {missing}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output has gone, as `| head` does: end as quietly as other tools
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (
        OSError,
        MemoryError,
    ) as error:  # a full disk, a folder that has gone: what nothing else caught
        print(f"error: {_of_the_system(error)}", file=sys.stderr)
        return 2
    except ValueError as error:
        if "embedded null" not in str(error):
            raise
        print("error: a path has a NUL character, which no file name has", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(interrupts.message(error), file=sys.stderr)
        return 143 if isinstance(error, Terminated) else 130


_NEXT = {
    errno.EACCES: "give the rights, or name another folder",
    errno.EPERM: "give the rights, or name another folder",
    errno.EROFS: "name a folder that can be written to",
    errno.ENOSPC: "make room; the same command goes on, or begins again",
    errno.EDQUOT: "make room; the same command goes on, or begins again",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENAMETOOLONG: "take a shorter name",
    errno.ENOENT: "it is not there, or no more: check the path",
}


def _of_the_system(error: OSError | MemoryError) -> DkgzslError:
    """An error of the operating system in the form of ours."""
    if isinstance(error, MemoryError):
        return DkgzslError("there is not enough memory", fix="close other programs, or take a smaller data set")
    what = error.strerror or str(error) or type(error).__name__
    name = None if error.filename is None else ascii(os.fsdecode(error.filename)).strip("'")
    shown = name if name is None or len(name) <= 120 else f"{name[:60]}...{name[-50:]}"
    return DkgzslError(what[:1].lower() + what[1:], where=shown, fix=_NEXT.get(error.errno or 0))


def _dispatch(words: list[str], interrupts: Interrupts) -> int:
    if words[:1] == ["help"] and len(words) > 1:  # `help VERB` is `VERB --help`
        return _dispatch([*words[1:], "--help"], interrupts)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] == "--version":
        from dkgzsl import __version__

        print(f"dkgzsl {__version__}")
        return 0
    for length in (2, 1):
        verb = " ".join(words[:length])
        if verb in VERBS:
            interrupts.verb = verb
            return _run(verb, words[length:])
    group = words[0]
    members = [verb for verb in VERBS if verb.split()[0] == group]
    if members:  # a group such as `data`, without or with an unknown second word
        if len(words) == 1 or words[1] in ("-h", "--help"):
            print(_help(group))
            return 0
        raise DkgzslError(
            f"unknown verb {' '.join(words[:2])!r}", fix=nearest(" ".join(words[:2]), members, of="verbs")
        )
    fix = "dkgzsl predict RUN IMAGE --overlay FOLDER draws it" if group == "attention" else None
    raise DkgzslError(f"unknown verb {group!r}", fix=fix or nearest(group, VERBS, of="verbs"))


def _run(verb: str, words: list[str]) -> int:
    from dkgzsl.cli.help import asks_for_help, help_of
    from dkgzsl.cli.parse import has_sections, parse

    module = import_module(VERBS[verb][1])
    if follows() and (verb != "train" or asks_for_help(words)):
        return 0  # process 0 prints the help, or the error
    if launched() and verb != "train" and not asks_for_help(words):
        raise DkgzslError(f"dkgzsl {verb} runs in one process", fix="leave torchrun out: it is for dkgzsl train")
    if asks_for_help(words):
        short, examples = getattr(module, "SHORT", ()), getattr(module, "EXAMPLES", ())
        print(help_of(verb, module.Config, words, short=short, examples=examples))
        return 0
    reads_methods = has_sections(module.Config)  # for their settings: parsing imports torch
    if reads_methods:
        _say_that_it_starts(verb)
    try:
        config = parse(module.Config, words, verb=verb)
    except DkgzslError:
        if follows():  # process 0 has the same words
            return 2
        raise
    if not reads_methods:
        _say_that_it_starts(verb)
    module.run(config)
    return 0


def _say_that_it_starts(verb: str) -> None:
    """A line on a terminal before the slow imports, so that the screen is not empty for seconds."""
    if verb not in _QUICK and sys.stderr.isatty() and not follows():
        print(f"dkgzsl {verb}: loading libraries and data ...", file=sys.stderr, flush=True)


def _help(group: str | None = None) -> str:
    width = max(len(verb) for verb in VERBS)
    if group is not None:
        shown = [f"  {verb:<{width}}  {text}" for verb, (text, _) in VERBS.items() if verb.split()[0] == group]
        usage = f"usage: dkgzsl {group} VERB [OPTIONS]        (dkgzsl help {group} VERB shows the options)"
        return "\n".join([usage, "", *shown])
    lines = [
        "usage: dkgzsl VERB [OPTIONS]        (dkgzsl help VERB shows the options)",
        "",
        "Zero-shot learning: recognise classes that have no training image, from their descriptions.",
    ]
    for title, verbs in _GROUPS.items():
        lines += ["", f"{title}:", *(f"  {verb:<{width}}  {VERBS[verb][0]}" for verb in verbs)]
    return "\n".join([*lines, "", "First step: dkgzsl train numbers   (it needs no download)"])


if __name__ == "__main__":
    sys.exit(main())
