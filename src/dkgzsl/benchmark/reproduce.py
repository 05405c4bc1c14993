"""Published settings run again, and their figures beside the published ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from dkgzsl.benchmark.published import peer_names, peer_preset
from dkgzsl.benchmark.run import benchmark
from dkgzsl.config import BenchmarkConfig, Protocol, ReproduceConfig, TrainConfig
from dkgzsl.errors import ConfigError, DataError, nearest
from dkgzsl.methods.dkgzsl.presets import Preset, preset_names, preset_of
from dkgzsl.runs.training import train

PROTOCOLS: Final[tuple[Protocol, ...]] = get_args(Protocol)
_FIGURES: Final = ("t1", "u", "s", "h")
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
    """

    method: str
    dataset: str
    backbone: str
    semantics: str
    figures: Mapping[str, float | None]
    chosen_on: str
    source: str
    checked: bool


@dataclass(frozen=True)
class Reproduced:
    """Published lines, each with what came out here by protocol, or the reason why it was not run.

    Attributes:
        lines: (published, {protocol: figures}, reason).
        notes: settings that the publication leaves out, and what was chosen instead.
    """

    lines: list[tuple[Published, dict[str, Mapping[str, Any]], str | None]]
    notes: tuple[str, ...]


def published_of(name: str, *, backbone: str | None = None) -> tuple[list[Published], tuple[str, ...]]:
    """Published lines and notes of a data set of the method's own table, or of a peer.

    Raises:
        ConfigError: neither is known by that name, or the table has no such backbone.
    """
    datasets = {one.casefold(): one for one in preset_names() if preset_of(one).published}
    if name.casefold() in datasets:
        preset = preset_of(datasets[name.casefold()])
        lines, notes = _own_table(preset), preset.notes
    elif name in peer_names():
        peer = peer_preset(name)
        lines = [
            Published(
                name,
                one.dataset,
                one.backbone,
                one.semantics,
                {figure: getattr(one, figure) for figure in _FIGURES},
                one.chosen_on,
                one.source,
                one.checked,
            )
            for one in peer.results
        ]
        notes = peer.notes
    else:
        known = [*datasets.values(), *peer_names()]
        raise ConfigError(f"nothing published is known of {name!r}", fix=nearest(name, known, of="names"))
    if backbone is not None:
        here = list(dict.fromkeys(line.backbone for line in lines))
        lines = [line for line in lines if line.backbone == backbone]
        if not lines:
            raise ConfigError(
                f"nothing was published with {backbone!r}", fix=nearest(backbone, here, of="backbones")
            )
    return lines, notes


def _own_table(preset: Preset) -> list[Published]:
    return [
        Published(
            "paper",
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

    Raises:
        ConfigError: nothing published has that name.
        DataError: no line's data is here; the message is that of the first.
        RunError: a folder that cannot be written or continued.
    """
    published, notes = published_of(config.name, backbone=config.backbone)
    folder = Path(config.out or f"runs/reproduce-{config.name}")
    lines: list[tuple[Published, dict[str, Mapping[str, Any]], str | None]] = []
    first: DataError | None = None
    for line in published:
        measured: dict[str, Mapping[str, Any]] = {}
        reason = None
        for protocol in PROTOCOLS:
            log(f"{line.method} on {line.dataset}, {line.backbone}, {line.semantics}: protocol {protocol}")
            try:
                run = _own if line.method == "paper" else _peer
                measured[protocol] = run(config, line, protocol, folder)
            except DataError as error:
                first, reason = first or error, str(error).splitlines()[0]
                break
        lines.append((line, measured, reason))
    if first is not None and not any(measured for _, measured, _ in lines):
        raise first
    return Reproduced(lines, notes)


def _own(config: ReproduceConfig, line: Published, protocol: Protocol, folder: Path) -> Mapping[str, Any]:
    out = folder / f"{line.dataset}-{line.backbone.replace('/', '')}-{protocol}"
    trained = train(
        TrainConfig(
            line.dataset,
            data_root=config.data_root,
            backbone=line.backbone,
            semantics=line.semantics,
            variant="paper",
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
    found = benchmark(
        BenchmarkConfig(
            datasets=(line.dataset,),
            methods=(line.method,),
            semantics=(line.semantics,),
            data_root=config.data_root,
            protocol=protocol,
            seeds=1,
            minutes=config.minutes or 600.0,
            device=config.device or "cpu",
            out=str(folder / f"{line.dataset}-{line.semantics}-{protocol}"),
        )
    )
    if not found.rows:
        raise DataError(found.failed[0]["error"], where=line.dataset)
    metrics: Mapping[str, Any] = found.rows[0]["metrics"]
    return metrics
