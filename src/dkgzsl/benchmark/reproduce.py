"""Published settings run again, and their figures compared with the published ones."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any, Final, get_args

from dkgzsl.benchmark.published import peer_names, peer_preset
from dkgzsl.benchmark.run import benchmark
from dkgzsl.config import BenchmarkConfig, Protocol, ReproduceConfig, TrainConfig
from dkgzsl.data.catalog import features_of
from dkgzsl.device import device_of
from dkgzsl.display import FIGURE_NAMES, latex_table, percent
from dkgzsl.errors import ConfigError, DataError, nearest
from dkgzsl.methods.dkgzsl.settings import Preset, preset_names, preset_of
from dkgzsl.methods.registry import PUBLISHED, method_info
from dkgzsl.methods.sections import with_schedule
from dkgzsl.runs.training import train

PROTOCOLS: Final[tuple[Protocol, ...]] = get_args(Protocol)
_FIGURES: Final = ("t1", "u", "s", "h")
_OTHER_SPLIT: Final = "the figures are on the standard split; runs here are on the proposed one"
Log = Callable[[str], None]


@dataclass(frozen=True)
class Published:
    """A line of a published table.

    Attributes:
        method: which one.
        dataset: on what.
        backbone: of the features.
        semantics: class descriptions.
        figures: t1, u, s, h as fractions of 1; None where it was not published.
        chosen_on: images that settings were chosen on, as far as is known.
        source: where it is printed.
        checked: whether the figures were compared with the print.
        split: `proposed` or `standard`.
    """

    method: str
    dataset: str
    backbone: str
    semantics: str
    figures: Mapping[str, float | None]
    chosen_on: str
    source: str
    checked: bool
    split: str = "proposed"


@dataclass(frozen=True)
class Reproduced:
    """Published lines, each with what came out here by protocol, or the reason why it was not run.

    Attributes:
        lines: (published, {protocol: figures}, reason).
        notes: settings that the publication leaves out, and what was chosen instead.
    """

    lines: list[tuple[Published, dict[str, Mapping[str, Any]], str | None]]
    notes: tuple[str, ...]

    def heads(self) -> list[str]:
        """Heads of the table."""
        return ["", *(FIGURE_NAMES[key] for key in _FIGURES)]

    def cells(self, *, epochs: int | None = None) -> list[list[str]]:
        """The table as text, in percent: each published line, below it what came out here, or why nothing did.

        Args:
            epochs: of a shortened training, named in its lines.
        """
        rows = []
        for line, measured, why in self.lines:
            about = f"{line.method}, {line.dataset}, {line.backbone}, {line.semantics}"
            chosen = f"chosen on {line.chosen_on}" + ("" if line.checked else ", quoted from memory")
            rows.append([f"{about}: published ({chosen})", *(percent(line.figures[key]) for key in _FIGURES)])
            for protocol in (one for one in PROTOCOLS if one in measured):
                values = (measured[protocol].get(key) for key in _FIGURES)
                shown = f"  here, {protocol}" + (" (chosen on test)" if protocol == "oracle" else "")
                shown += "" if epochs is None else f", epochs: {epochs}"
                rows.append([shown, *(percent(value and value["mean"]) for value in values)])
            if why:
                rows.append([f"  not run: {why}", *("" for _ in _FIGURES)])
        return rows

    def to_latex(self) -> str:
        """The table for LaTeX (booktabs), in percent."""
        return latex_table(self.heads(), self.cells())

    def to_csv(self) -> str:
        """The table as comma-separated values, in percent."""
        text = StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([self.heads(), *self.cells()])
        return text.getvalue()


def published_of(
    name: str | None, *, method: str | None = None, backbone: str | None = None
) -> tuple[list[Published], tuple[str, ...]]:
    """Published lines and notes of a method.

    Args:
        name: a data set, or a method instead of `method`; None: all data sets.
        method: by name (default: the published method).
        backbone: keeps the lines of one backbone.

    Raises:
        ConfigError: nothing published has that name, or the table has no such backbone.
    """
    method, name = _asked(method, name)
    lines, notes = _published_by(method, name)
    return _with_backbone(lines, backbone), notes


def _asked(method: str | None, name: str | None) -> tuple[str, str | None]:
    """The method and the data set, where the method may stand in the data set's place."""
    if name is not None and name in (*peer_names(), PUBLISHED) and method is None:
        return name, None
    return method or PUBLISHED, name


def _published_by(method: str, name: str | None) -> tuple[list[Published], tuple[str, ...]]:
    if method == PUBLISHED:
        own = {one.casefold(): one for one in preset_names() if preset_of(one).published}
        if name is not None and name.casefold() not in own:
            known = [*own.values(), PUBLISHED, *peer_names()]
            raise ConfigError(f"nothing published is known of {name!r}", fix=nearest(name, known, of="names"))
        presets = [preset_of(one) for one in ([own[name.casefold()]] if name is not None else own.values())]
        lines = [line for preset in presets for line in _own_table(preset)]
        return lines, tuple(dict.fromkeys(note for preset in presets for note in preset.notes))
    peer = peer_preset(method)
    lines = [
        Published(
            method,
            one.dataset,
            one.backbone,
            one.semantics,
            {figure: getattr(one, figure) for figure in _FIGURES},
            one.chosen_on,
            one.source,
            one.checked,
            one.split,
        )
        for one in peer.results
        if name is None or one.dataset.casefold() == name.casefold()
    ]
    if name is not None and not lines:
        here = list(dict.fromkeys(one.dataset for one in peer.results))
        raise ConfigError(f"nothing is known to be published of {method} on {name!r}", fix=nearest(name, here))
    return lines, peer.notes


def _with_backbone(lines: list[Published], backbone: str | None) -> list[Published]:
    if backbone is None:
        return lines
    here = list(dict.fromkeys(line.backbone for line in lines))
    kept = [line for line in lines if line.backbone == backbone]
    if not kept:
        raise ConfigError(f"nothing was published with {backbone!r}", fix=nearest(backbone, here, of="backbones"))
    return kept


def _own_table(preset: Preset) -> list[Published]:
    return [
        Published(
            PUBLISHED,
            preset.dataset,
            backbone,
            preset.semantics or "att",
            {figure: getattr(figures, figure) for figure in _FIGURES},
            "test",
            "DKGZSL, IEEE TCSVT 2025, its tables",
            True,
        )
        for backbone, figures in preset.published.items()
    ]


def reproduce(config: ReproduceConfig, *, log: Log = print) -> Reproduced:
    """Run every published line whose data is here, under both protocols; runs that are done are kept.

    Args:
        config: the settings; a dry run only says what is published, and what would not be run.
        log: called with a line before each run.

    Raises:
        ConfigError: nothing published has that name, or the method has no epochs or no minutes to set.
        DataError: no line's data is here; the message is that of the first.
        RunError: a folder that cannot be written or continued.
    """
    published, notes = published_of(config.name, method=config.method, backbone=config.backbone)
    _check_schedule(config)
    folder = Path(config.out or f"runs/reproduce-{config.name or config.method or PUBLISHED}")
    lines: list[tuple[Published, dict[str, Mapping[str, Any]], str | None]] = []
    first: DataError | None = None
    for line in published:
        measured: dict[str, Mapping[str, Any]] = {}
        reason = None if line.split == "proposed" else _OTHER_SPLIT
        for protocol in PROTOCOLS if reason is None and not config.dry_run else ():
            log(f"{line.method} on {line.dataset}, {line.backbone}, {line.semantics}: protocol {protocol}")
            try:
                run = _own if line.method == PUBLISHED else _peer
                measured[protocol] = run(config, line, protocol, folder)
            except DataError as error:
                first, reason = first or error, str(error).splitlines()[0]
                break
        lines.append((line, measured, reason))
    if first is not None and not any(measured for _, measured, _ in lines):
        raise first
    return Reproduced(lines, notes)


def _check_schedule(config: ReproduceConfig) -> None:
    method, _ = _asked(config.method, config.name)
    with_schedule(method, None, {"epochs": config.epochs})  # raises where the method has none
    if config.minutes is not None and (method == PUBLISHED or not method_info(method).iterative):
        raise ConfigError(f"--minutes has no meaning for {method}", fix="leave --minutes out")


def _own(config: ReproduceConfig, line: Published, protocol: Protocol, folder: Path) -> Mapping[str, Any]:
    out = folder / f"{line.dataset}-{line.backbone.replace('/', '')}-{protocol}"
    trained = train(
        TrainConfig(
            line.dataset,
            data_root=config.data_root,
            backbone=line.backbone,
            semantics=line.semantics,
            method=PUBLISHED,
            protocol=protocol,
            epochs=config.epochs,
            baseline="none",
            device=config.device,
            out=str(out),
            resume=(out / "config.yaml").is_file(),
        )
    )
    metrics: Mapping[str, Any] = trained.result["metrics"]
    return metrics


def _peer(config: ReproduceConfig, line: Published, protocol: Protocol, folder: Path) -> Mapping[str, Any]:
    """By a benchmark, which can cap the minutes, on features of the name that the backbone's have."""
    backbone = line.backbone.replace("/", "")
    found = benchmark(
        BenchmarkConfig(
            datasets=(f"{line.dataset}@{features_of(line.backbone)}",),
            methods=(line.method,),
            semantics=(line.semantics,),
            data_root=config.data_root,
            protocol=protocol,
            seeds=1,
            minutes=config.minutes,
            device=str(device_of(config.device)),
            out=str(folder / f"{line.dataset}-{backbone}-{line.semantics}-{protocol}"),
            settings={line.method: _settings(line, config.epochs)},
        )
    )
    if not found.rows:
        raise DataError(found.failed[0]["error"], where=line.dataset)
    metrics: Mapping[str, Any] = found.rows[0]["metrics"]
    return metrics


def _settings(line: Published, epochs: int | None) -> Any:
    """A peer's settings with the constants that were published for the data set."""
    peer, settings = peer_preset(line.method), method_info(line.method).settings
    constants = {**peer.settings, **peer.by_dataset.get(line.dataset, {})}
    known = {one.name for one in fields(settings)}
    made = settings(**{name: value for name, value in constants.items() if name in known})
    return with_schedule(line.method, made, {"epochs": epochs})
