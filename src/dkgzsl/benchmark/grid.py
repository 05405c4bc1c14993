"""Which cells a benchmark has, and doing those that are not done: one process, several, or a cluster."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from dkgzsl.benchmark.cells import Cell, checkpoints_of, read_cell, run_cell, write_cell
from dkgzsl.cluster.shares import map_shares
from dkgzsl.config import BenchmarkConfig, RefinementConfig
from dkgzsl.data.load import is_name, load_dataset
from dkgzsl.errors import ConfigError, DkgzslError, nearest
from dkgzsl.methods.registry import check_name, method_info, methods_by_default
from dkgzsl.methods.sections import settings_by_method, with_schedule
from dkgzsl.representation.representation import learns, representations

Done = Callable[[Cell, dict[str, Any]], None]
"""Called with each cell when it is done or has failed."""


def cells_of(config: BenchmarkConfig) -> list[Cell]:
    """The cells, in the order in which they are done: those that share a data set and seed follow each other.

    Raises:
        ConfigError: an unknown method or representation, settings that do not fit, or semantics that no data set
            has.
        DataError: a data set that is missing or unfit.
    """
    for method in config.methods or ():
        check_name(method)
    representations(config.representations, config.refinement, seed=0)  # raises where one is unknown
    settings = settings_by_method(config.settings)
    methods = config.methods or methods_by_default()
    cells = []
    used: set[str] = set()
    for dataset, features in map(_named, config.datasets):
        problem = load_dataset(dataset, data_root=config.data_root, features=features)
        learned = [name for name in config.representations if name != "pooled"]
        if learned and not problem.has_regions:
            raise ConfigError(
                f"{problem.name} has pooled features: there are no regions for {learned[0]!r}",
                fix="benchmark it apart, with --representations pooled",
            )
        asked = config.semantics or (problem.semantics_name,)
        described = [name for name in asked if name in problem.semantic_sources]
        used |= set(described)
        for seed in range(config.first_seed, config.first_seed + config.seeds):
            for representation in config.representations:
                for semantics in described:
                    for method in methods:
                        iterative = method_info(method).iterative
                        if iterative and seed - config.first_seed >= (config.iterative_seeds or config.seeds):
                            continue
                        cells.append(
                            Cell(
                                dataset=dataset,
                                features=features,
                                semantics=semantics,
                                representation=representation,
                                method=method,
                                seed=seed,
                                protocol=config.protocol,
                                minutes=config.minutes if iterative else None,
                                clock=config.clock if iterative and config.minutes is not None else None,
                                refinement=config.refinement if learns(representation) else RefinementConfig(),
                                adapt=config.adapt if "adaptable" in method_info(method).capabilities else None,
                                settings=_scheduled(method, settings.get(method), config.epochs),
                            )
                        )
    unused = [name for name in config.semantics or () if name not in used]
    if unused:
        raise ConfigError(
            f"none of the data sets has semantics {unused[0]!r}",
            fix=nearest(unused[0], sorted(problem.semantic_sources), of=f"semantics of {problem.name}"),
        )
    return cells


def _scheduled(method: str, settings: Any, epochs: int | None) -> Any:
    """The settings with the benchmark's epochs, where it has any and the method trains by them."""
    if epochs is None or not method_info(method).iterative:
        return settings
    return with_schedule(method, settings, {"epochs": epochs})


def _named(word: str) -> tuple[str, str | None]:
    """`NAME@FEATURES` -> both; paths become absolute, so that a table is the same wherever it is made."""
    if Path(word).exists():
        name, features = word, ""
    else:
        name, _, features = word.rpartition("@") if "@" in word else (word, "", "")
    if Path(name).exists() and ("/" in name or Path(name).is_dir()) and not is_name(name):
        name = str(Path(name).resolve())
    if features and Path(features).exists():
        features = str(Path(features).resolve())
    return name, features or None


@dataclass(frozen=True)
class _Share:
    """Cells of one data set and seed, for one process; without a folder nothing is kept of unfinished ones."""

    cells: tuple[Cell, ...]
    folder: Path | None
    refinement: RefinementConfig
    data_root: str | None
    device: str
    threads: int


def run_cells(config: BenchmarkConfig, cells: Sequence[Cell], folder: Path, done: Done) -> list[dict[str, Any]]:
    """Do the cells that are not done yet; the records of all, in the order of `cells`.

    A cell that fails is recorded with its error and tried again by the next call; the others go on. Each process
    computes with its share of the cores, so that `jobs` do not get in each other's way.

    Raises:
        RunError: a cell cannot be kept, or one on disk is damaged.
    """
    kept = {cell: read_cell(folder, cell) for cell in cells}
    pending = [cell for cell in cells if kept[cell] is None or "error" in (kept[cell] or {})]
    if config.on is not None:
        _run_on_workers(config, pending, folder, done)
        return [read_cell(folder, cell) or {} for cell in cells]
    jobs = min(config.jobs, max(1, len(pending)))
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else torch.get_num_threads()
    shares = [
        _Share(tuple(group), folder, config.refinement, config.data_root, config.device, threads)
        for group in _grouped(pending)
    ]
    if jobs == 1:
        for share in shares:
            for cell in _run_share(share):
                done(cell, read_cell(folder, cell) or {})
    else:
        _run_parallel(shares, jobs, folder, done)
    with suppress(OSError):  # cells that failed go on from theirs
        (folder / "checkpoints").rmdir()
    return [read_cell(folder, cell) or {} for cell in cells]


def _grouped(cells: Iterable[Cell]) -> list[list[Cell]]:
    return [list(group) for _, group in groupby(cells, key=lambda cell: (cell.dataset, cell.features, cell.seed))]


def _run_on_workers(config: BenchmarkConfig, cells: Sequence[Cell], folder: Path, done: Done) -> None:
    """Each cell is a share; those that share a learned representation are one, so that it is learned once.

    Workers write nothing: their records come here.
    """
    groups = [
        list(group)
        for _, group in groupby(
            cells,
            key=lambda cell: (
                (cell.dataset, cell.features, cell.seed, cell.representation)
                if learns(cell.representation)
                else cell
            ),
        )
    ]
    shares = [
        _Share(tuple(group), None, config.refinement, config.data_root, config.device, 1) for group in groups
    ]
    gpu = config.device.startswith("cuda")
    for position, records in map_shares(records_of, None, shares, on=config.on, gpu=gpu, in_order=False):
        for cell, record in zip(shares[position].cells, records, strict=True):
            write_cell(folder, cell, record)
            done(cell, record)


def records_of(_common: None, share: _Share) -> list[dict[str, Any]]:
    """The records of a share's cells, not written anywhere."""
    return [record for _, record in _records(share)]


def _run_parallel(shares: Sequence[_Share], jobs: int, folder: Path, done: Done) -> None:
    context = multiprocessing.get_context("spawn")
    reported: set[Cell] = set()

    def report_done() -> None:
        for share in shares:
            for cell in share.cells:
                if cell not in reported and (folder / f"{cell.slug}.json").is_file():
                    record = read_cell(folder, cell)
                    if record is not None and "error" not in record:
                        reported.add(cell)
                        done(cell, record)

    with ProcessPoolExecutor(max_workers=jobs, mp_context=context, initializer=_follow_parent) as pool:
        try:
            with _without_interrupts():
                running: set[Future[list[Cell]]] = {pool.submit(_run_whole_share, share) for share in shares}
            while running:
                finished, running = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                report_done()
                for future in finished:
                    future.result()
        except BaseException:
            for worker in list((pool._processes or {}).values()):
                worker.kill()  # what it has not finished, the next call goes on with
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for share in shares:
        for cell in share.cells:
            if cell not in reported:
                done(cell, read_cell(folder, cell) or {})


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile do not get the terminal's Ctrl-C: the parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow_parent() -> None:
    """End with the parent, however that ends: nobody else would stop a worker that is left alone."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _run_whole_share(share: _Share) -> list[Cell]:
    torch.set_num_threads(share.threads)
    return list(_run_share(share))


def _run_share(share: _Share) -> Iterable[Cell]:
    """Do and keep the cells, one by one."""
    assert share.folder is not None, "a share of this machine has one"
    for cell, record in _records(share):
        write_cell(share.folder, cell, record)
        if "error" not in record:
            shutil.rmtree(checkpoints_of(share.folder, cell), ignore_errors=True)
        yield cell


def _records(share: _Share) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """One data set and seed: the data is read, and SOVR is trained, once for all cells."""
    first = share.cells[0]
    problem = load_dataset(first.dataset, data_root=share.data_root, features=first.features, test_seed=first.seed)
    names = list(dict.fromkeys(cell.representation for cell in share.cells))
    made = representations(names, share.refinement, seed=first.seed, device=share.device)
    by_name = dict(zip(names, made, strict=True))
    for cell in share.cells:
        try:
            record = run_cell(
                cell,
                problem.with_semantics(cell.semantics),
                by_name[cell.representation],
                device=share.device,
                checkpoints=None if share.folder is None else checkpoints_of(share.folder, cell),
            )
        except (DkgzslError, ArithmeticError, RuntimeError) as error:
            record = {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        yield cell, record
