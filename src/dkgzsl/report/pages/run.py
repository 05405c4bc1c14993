"""The page of one run: its content put into the template."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from dkgzsl import __version__
from dkgzsl.report.charts.balance import Line, class_chart, curve_chart, destinations_chart
from dkgzsl.report.charts.choices import refinement_chart, settings_chart, training_chart
from dkgzsl.report.charts.feature_map import map_chart
from dkgzsl.report.charts.reliability import reliability_chart
from dkgzsl.report.charts.svg import Chart
from dkgzsl.report.pages import classes, headline, provenance
from dkgzsl.report.pages.content import RunContent
from dkgzsl.report.pages.pictures import Pictures, attention_rows
from dkgzsl.report.record.predictions import destinations
from dkgzsl.report.wording import FIGURES, mean_percent, name, percent, printable

if TYPE_CHECKING:
    from jinja2 import Environment


def render_run(content: RunContent, *, images: bool = True) -> str:
    """The page of a run, self-contained.

    Args:
        content: of the run's folder.
        images: whether pictures of test images are put into it, where they are found.
    """
    return templates().get_template("run.html.j2").render(_context(content, images))


@cache
def templates() -> Environment:
    """The templates; whatever is put into them is escaped, unless it is markup that was made here."""
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
    record = content.first
    result = content.result
    pictures = Pictures({} if record is None else record.pictures, wanted=images)
    rows = classes.class_rows(content)
    values, is_unseen = classes.accuracies(rows)
    known = [] if record is None else classes.known_classes(record)
    confusions = [] if record is None else classes.shown_confusions(record, pictures)
    gallery = [] if record is None else classes.gallery(record, pictures)
    evaluations = content.events("evaluation")
    charts: dict[str, Chart | None] = {
        "curve": _curve(content),
        "destinations": _destinations(content),
        "reliability": reliability_chart("reliability", content.detail.get("reliability")),
        "map": None
        if record is None or record.feature_map is None
        else map_chart("map", record.feature_map, record.class_names),
        "classes": class_chart("classes", values, is_unseen) if (values == values).any() else None,
        "settings": None if _epochwise(evaluations) else settings_chart("settings", evaluations, _chosen(content)),
        "training": training_chart("training", evaluations, content.events("epoch")),
        "refinement": refinement_chart("refinement", content.events("refinement")),
    }
    return {
        "title": f"{printable(str(result['dataset']))}, {result['variant']}",
        "content": content,
        "result": result,
        "dataset": printable(str(result["dataset"]).rsplit("/", 1)[-1]),
        "semantics": name(result["semantics"]),
        "sentence": headline.sentence(content),
        "tested": headline.tested(content),
        "in_words": headline.in_words(content),
        "tiles": headline.tiles(content),
        "baseline": headline.BASELINE if result.get("baseline") else None,
        "test_evaluations": headline.test_evaluations(content),
        "default": bool(result.get("default")),
        "reliability": content.detail.get("reliability"),
        "seeds_table": _seeds_table(content),
        "constant": content.detail.get("constant"),
        "record": record,
        "pictures": pictures.kind,
        "gallery": gallery,
        "charts": charts,
        "rows": rows,
        "hardest_unseen": classes.hardest(rows, "unseen"),
        "hardest_seen": classes.hardest(rows, "seen", 3),
        "confusions": confusions,
        "cards": [] if record is None or not known else classes.cards(record, known),
        "known": known,
        "acquaintance": None if record is None else record.acquaintance,
        "attention": [] if record is None else attention_rows(record, pictures),
        "evaluations": len(evaluations),
        "settings": provenance.settings(content),
        "provenance": provenance.provenance(content),
        "hashes": provenance.file_hashes(content),
        "config_text": _config_text(content),
        "files": [(printable(file), f"{size:,}") for file, size in content.files],
        "missing": _missing(content, pictures, images, charts),
        "version": __version__,
        "percent": percent,
    }


def _curve(content: RunContent) -> Chart | None:
    record = content.first
    if record is None or content.scored is None:
        return None
    detail = content.detail["figures"]
    lines = [_line(f"{content.result['variant']}", content.scored.curve(), detail)]
    if content.baseline is not None:
        figures = content.result["baseline"]["figures"]
        lines.append(_line(headline.BASELINE, content.baseline.answers.scored().curve(), figures))
    if content.default is not None:
        figures = content.result["default"]["figures"]
        lines.append(_line("default form", content.default.answers.scored().curve(), figures))
    others = [one.answers.scored().curve() for one in content.records[1:] if one is not None]
    return curve_chart("curve", lines, beside=others)


def _line(title: str, curve: Any, figures: Any) -> Line:
    raw = None if figures["u"] is None or figures["s"] is None else (figures["u"], figures["s"])
    calibrated = None
    if figures.get("u_calibrated") is not None and figures.get("s_calibrated") is not None:
        calibrated = figures["u_calibrated"], figures["s_calibrated"]
    return Line(title, curve, figures["ausuc"], raw, calibrated)


def _destinations(content: RunContent) -> Chart | None:
    record = content.first
    if record is None:
        return None
    found = []
    for kind in ("unseen", "seen"):
        for decision, constant in (("raw", None), ("calibrated", record.constant)):
            if decision == "raw" or constant is not None:
                shares = destinations(record.answers, constant, unseen=kind == "unseen")
                if shares is not None:
                    found.append((f"{kind}, {decision}", shares))
    kinds = ("told right", "taken for another class of their kind", "taken for the other kind (seen ↔ unseen)")
    return destinations_chart("destinations", found, kinds=kinds) if found else None


def _epochwise(evaluations: list[Any]) -> bool:
    return any("epochs" in one["setting"] for one in evaluations)


def _chosen(content: RunContent) -> dict[str, Any]:
    return {**content.detail["setting"], "representation": content.detail.get("representation")}


def _seeds_table(content: RunContent) -> list[list[str]]:
    """Each seed's figures, and their mean, where there are several."""
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
    """What this page lacks, and why."""
    record = content.first
    if record is None:
        return [
            "the curve, where the images went, the map of features, confusions and nearest classes: the folder "
            "has no report.safetensors (an older version made it, or that part failed); train again to have them"
        ]
    lacking = []
    if not images:
        lacking.append("pictures: they were left out on request")
    elif pictures.kind is None:
        lacking.append("pictures: this run's features came without image files")
    if record.feature_map is None:
        lacking.append("the map of synthesized features: this model synthesizes none, or has too few seen classes")
    if record.acquaintance is not None and record.acquaintance.attributes is None:
        lacking.append("attributes: no description of this data set has named columns")
    if content.result.get("baseline") and content.baseline is None:
        lacking.append("the baseline's curve: the run kept no answers of it")
    if all(charts[key] is None for key in ("settings", "training")):
        lacking.append("how the model was chosen: nothing was logged, or there was one setting only")
    return lacking
