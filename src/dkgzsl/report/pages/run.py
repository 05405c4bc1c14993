"""The page of one run: the context of its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from dkgzsl import __version__
from dkgzsl.evaluation.metrics import SeenUnseenCurve
from dkgzsl.methods.registry import DEFAULT
from dkgzsl.report.charts.accuracy import class_chart, curve_chart, reliability_chart, shares_chart
from dkgzsl.report.charts.choices import refinement_chart, settings_chart, training_chart
from dkgzsl.report.charts.drawing import Line
from dkgzsl.report.charts.feature_map import map_chart
from dkgzsl.report.charts.svg import Chart
from dkgzsl.report.pages import classes, headline, provenance
from dkgzsl.report.pages.content import RunContent
from dkgzsl.report.pages.in_short import GLOSSARY, can_do
from dkgzsl.report.pages.pictures import Pictures, attention_rows
from dkgzsl.report.record.predictions import prediction_shares
from dkgzsl.report.record.record import Record
from dkgzsl.report.wording import FIGURES, mean_percent, name, percent, printable

if TYPE_CHECKING:
    from jinja2 import Environment


def render_run(content: RunContent, *, images: bool = True) -> str:
    """The page of a run, self-contained.

    Args:
        content: content of the run's folder.
        images: whether the page has pictures of test images, where they are found.

    Returns:
        HTML.
    """
    return templates().get_template("run.html.j2").render(_context(content, images))


@cache
def templates() -> Environment:
    """The templates. All values are escaped; the filter `markup` alone, for charts, lets markup through."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("dkgzsl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markup"] = lambda chart: Markup(chart.svg)
    return environment


def _context(content: RunContent, images: bool) -> dict[str, Any]:
    record, result = content.first, content.result
    pictures = Pictures({} if record is None else record.pictures, wanted=images)
    rows = classes.class_rows(content)
    charts = _charts(content, rows)
    return {
        "title": f"{printable(str(result['dataset']))}, {content.method}",
        "content": content,
        "result": result,
        "record": record,
        "dataset": printable(str(result["dataset"]).rsplit("/", 1)[-1]),
        "semantics": name(result["semantics"]),
        "can_do": can_do(content, rows),
        "glossary": GLOSSARY,
        "sentence": headline.sentence(content),
        "tested": headline.tested(content),
        "in_words": headline.in_words(content),
        "added": [(name(one), "described" if kind == "unseen" else kind) for one, kind in content.added],
        "estimated": headline.estimate_in_words(content),
        "leaning": headline.leaning_in_words(content),
        "tiles": headline.tiles(content),
        "baseline": content.baseline_name,
        "default": DEFAULT if result.get("default") else None,
        "test_evaluations": headline.test_evaluations(content),
        "seeds_table": _seeds_table(content),
        "constant": content.detail.get("constant"),
        "reliability": content.detail.get("reliability"),
        "charts": charts,
        "rows": rows,
        "hardest_unseen": classes.hardest(rows, "unseen"),
        "hardest_seen": classes.hardest(rows, "seen", 3),
        "pictures": pictures.kind,
        **_from_record(record, pictures),
        "evaluations": len(content.events("evaluation")),
        "settings": provenance.settings(content),
        "provenance": provenance.provenance(content),
        "hashes": provenance.file_hashes(content),
        "config_text": _config_text(content),
        "files": [(printable(file), f"{size:,}") for file, size in content.files],
        "missing": _missing(content, pictures, images, charts),
        "version": __version__,
        "percent": percent,
    }


def _from_record(record: Record | None, pictures: Pictures) -> dict[str, Any]:
    """The parts of the page that show the record's predictions and classes; all empty without a record."""
    if record is None:
        empty = dict.fromkeys(("gallery", "confusions", "attention", "summaries", "cards"), ())
        return {**empty, "class_neighbours": None}
    summaries = classes.class_summaries(record)
    return {
        "gallery": classes.gallery(record, pictures),
        "confusions": classes.shown_confusions(record, pictures),
        "attention": attention_rows(record, pictures),
        "summaries": summaries,
        "cards": classes.cards(record, summaries) if summaries else [],
        "class_neighbours": record.class_neighbours,
    }


def _charts(content: RunContent, rows: Sequence[classes.ClassRow]) -> dict[str, Chart | None]:
    record, evaluations = content.first, content.events("evaluation")
    values, is_unseen = classes.accuracies(rows)
    by_epoch = any("epochs" in one["setting"] for one in evaluations)
    chosen = {**content.detail["setting"], "representation": content.detail.get("representation")}
    feature_map = None if record is None else record.feature_map
    return {
        "curve": None if headline.estimated(content) else _curve(content),
        "shares": None if headline.estimated(content) else _shares(content),
        "reliability": reliability_chart("reliability", content.detail.get("reliability")),
        "map": map_chart("map", feature_map, record.class_names) if record and feature_map else None,
        "classes": class_chart("classes", values, is_unseen) if (values == values).any() else None,
        "settings": None if by_epoch else settings_chart("settings", evaluations, chosen, on_test=content.on_test),
        "training": training_chart("training", evaluations, content.events("epoch"), on_test=content.on_test),
        "refinement": refinement_chart("refinement", content.events("refinement")),
    }


def _curve(content: RunContent) -> Chart | None:
    record = content.first
    if record is None or content.scored is None:
        return None
    lines = [_line(content.method, content.scored.curve(), content.detail["figures"])]
    for title, key, other in (
        (content.baseline_name or "baseline", "baseline", content.baseline),
        (DEFAULT, "default", content.default),
    ):
        if other is not None and content.result.get(key):
            lines.append(_line(title, other.predictions.decisions().curve(), content.result[key]["figures"]))
    further = [one.predictions.decisions().curve() for one in content.records[1:] if one is not None]
    return curve_chart("curve", lines, further_seeds=further)


def _line(title: str, curve: SeenUnseenCurve, figures: Mapping[str, float | None]) -> Line:
    def point(suffix: str) -> tuple[float, float] | None:
        u, s = figures.get(f"u{suffix}"), figures.get(f"s{suffix}")
        return None if u is None or s is None else (u, s)

    return Line(title, curve, figures["ausuc"], point(""), point("_calibrated"))


def _shares(content: RunContent) -> Chart | None:
    record = content.first
    if record is None:
        return None
    bars = []
    for kind in ("unseen", "seen"):
        for decision, constant in (("raw", None), ("calibrated", record.constant)):
            if decision == "raw" or constant is not None:
                shares = prediction_shares(record.predictions, constant, unseen=kind == "unseen")
                if shares is not None:
                    bars.append((f"{kind}, {decision}", shares))
    kinds = ("correct", "another class of the same kind", "a class of the other kind (seen ↔ unseen)")
    return shares_chart("shares", bars, kinds=kinds) if bars else None


def _seeds_table(content: RunContent) -> list[list[str]]:
    """Figures of each seed and their mean; empty for one seed."""
    if not content.several:
        return []
    rows = [
        [str(detail["seed"]), *(percent(detail["figures"].get(key)) for key in FIGURES)]
        for detail in content.result["seeds_detail"]
    ]
    means = [mean_percent(content.result["metrics"].get(key), several=True) for key in FIGURES]
    return [*rows, ["mean ± deviation", *means]]


def _config_text(content: RunContent) -> str:
    import yaml

    return printable(yaml.safe_dump(dict(content.config), sort_keys=False, allow_unicode=True))


def _missing(content: RunContent, pictures: Pictures, images: bool, charts: dict[str, Chart | None]) -> list[str]:
    """What is missing on the page, and why."""
    record = content.first
    if record is None:
        return [
            "The curve, correct and wrong predictions, the map of the features, confusions, class neighbours: the "
            "folder has no report.safetensors (the run was made with --report off or by an older version, or this "
            "part failed). Train again to get them."
        ]
    lacking = []
    if not images:
        lacking.append("Pictures: the page was made without images.")
    elif pictures.kind is None:
        lacking.append("Pictures: the features of this run came without image files.")
    if record.feature_map is None:
        lacking.append("The map of the features: the model synthesizes none, or there are too few seen classes.")
    if record.class_neighbours is not None and record.class_neighbours.attributes is None:
        lacking.append("Attributes: no table of descriptions in this data set has named columns.")
    if content.result.get("baseline") and content.baseline is None:
        lacking.append("The curve of the baseline: the run has no predictions of it.")
    if all(charts[key] is None for key in ("settings", "training")):
        lacking.append("How the model was chosen: there was only one setting, or nothing was logged.")
    return lacking
