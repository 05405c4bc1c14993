"""The top of the page: the run in a few sentences, and its figures next to those of the baseline and of chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dkgzsl.report.estimate import Estimate, headline, leaning, what_it_is
from dkgzsl.report.pages.content import RunContent
from dkgzsl.report.paired import Difference, paired_differences, same_images
from dkgzsl.report.wording import FIGURES, classes, counted, name, percent, signed


@dataclass(frozen=True)
class Tile:
    """A headline figure.

    Attributes:
        key: key in the result object.
        label: name of the figure.
        meaning: what it means, in a few words.
        value: the figure in percent; the mean where there are several seeds.
        deviation: standard deviation over the seeds, in percent; None for one seed.
        place: the figure as a number from 0 to 100; None where it is undefined.
        baseline: the baseline's figure in percent, or None.
        baseline_place: the same as a number from 0 to 100.
        default: the default method's figure in percent; None unless this is a run of `dkgzsl`.
        chance: the figure of guessing in percent, or None.
        chance_place: the same as a number from 0 to 100.
        difference: figure minus the baseline's figure, in percentage points, or None.
        interval: 95 % interval of the difference.
        clear: whether zero lies outside this interval.
        spread: standard deviation over bootstrap draws of the test classes, in percent, or None.
    """

    key: str
    label: str
    meaning: str
    value: str
    deviation: str | None
    place: float | None
    baseline: str | None
    baseline_place: float | None
    default: str | None
    chance: str | None
    chance_place: float | None
    difference: str | None
    interval: str | None
    clear: bool
    spread: str | None


def sentence(content: RunContent) -> str:
    """What the model was trained on and what it recognises, for readers who do not know the field."""
    record = content.first
    if record is None:
        roles = [row["role"] for row in content.classes]
        seen, unseen = roles.count("seen"), roles.count("unseen")
        trained = f"images of {classes(seen)}"
    else:
        facts = record.facts
        unseen = facts["unseen_classes"]
        trained = f"{counted(facts['training_images'], 'image')} of {classes(facts['seen_classes'])}"
    first = f"This model was trained on {trained}."
    if not unseen:
        return first
    return (
        f"{first} It also recognises {counted(unseen, 'other class', 'other classes')} without training images, "
        f"from {'its description' if unseen == 1 else 'their descriptions'} alone "
        f"(semantics {name(content.result['semantics'])})."
    )


def tested(content: RunContent) -> str | None:
    """How many images and classes the model was tested on; None where this was not recorded."""
    record = content.first
    if record is None:
        return None
    facts = record.facts
    unseen, seen = classes(facts["unseen_classes"], "unseen "), classes(facts["seen_classes"], "seen ")
    if not facts["test_unseen"]:
        return (
            f"There are no test images of the {unseen}; the model was tested on {facts['test_seen']:,} further "
            f"images of {seen}."
        )
    number = sum(row["role"] == "unseen" and int(row["test_images"]) > 0 for row in content.classes)
    some = "" if number == facts["unseen_classes"] else f"{number} of "
    return (
        f"The model was tested on {facts['test_unseen']:,} images of {some}{unseen} "
        f"and on {facts['test_seen']:,} further images of {seen}."
    )


def test_evaluations(content: RunContent) -> str:
    """How many models were compared on which images before one was chosen."""
    details = content.details
    evaluations = [detail["evaluations"] for detail in details]
    if content.on_test:
        count = sum(detail["test_evaluations"] for detail in details)
        return f"the model was chosen on the test images, which were scored {count:,} times"
    each = "" if len(details) == 1 else " for each seed"
    tried = counted(sum(evaluations), "model was", "models were")
    return f"{tried} compared on validation images; the test images were scored once{each}, after this choice"


def differences(content: RunContent) -> dict[str, Difference]:
    """The first seed minus the baseline, on the same images; empty where predictions are missing."""
    ours, theirs = content.first, content.baseline
    if ours is None or theirs is None or not same_images(ours.predictions, theirs.predictions):
        return {}
    return paired_differences([((ours.predictions, ours.constant), (theirs.predictions, theirs.constant))])


def difference_text(difference: Difference) -> str:
    """`+1.2 [+0.3, +2.0]`, in percentage points."""
    return f"{signed(difference.value)} {interval_text(difference)}"


def interval_text(difference: Difference) -> str:
    """`[+0.3, +2.0]`, in percentage points."""
    return f"[{signed(difference.low)}, {signed(difference.high)}]"


def tiles(content: RunContent) -> list[Tile]:
    """The figures of `result.json`, next to those of the baseline, the default method and chance."""
    metrics: Mapping[str, Any] = content.result["metrics"]
    baseline: Mapping[str, Any] = (content.result.get("baseline") or {}).get("figures", {})
    default: Mapping[str, Any] = (content.result.get("default") or {}).get("figures", {})
    chance: Mapping[str, float] = content.result.get("chance") or {}
    spread: Mapping[str, float] = {} if content.several else content.detail.get("spread_over_classes") or {}
    estimate = estimated(content)
    if estimate is not None:
        metrics, chance = estimate.to_json()["metrics"], {}
        other = Estimate.of([content.result["baseline"]]) if content.result.get("baseline") else None
        baseline = {} if other is None else other.figures
        default, spread = {}, {}
    beyond = {} if estimate is not None else differences(content)
    found = []
    for key, (label, meaning) in FIGURES.items():
        value, other, luck = metrics.get(key), baseline.get(key), chance.get(key)
        found.append(
            Tile(
                key=key,
                label=label,
                meaning=meaning if estimate is None else meaning.replace("unseen", "held-out"),
                value=percent(None if value is None else value["mean"]),
                deviation=_deviation(value, shown=content.several or estimate is not None),
                place=None if value is None else round(100 * value["mean"], 2),
                baseline=None if other is None else percent(other),
                baseline_place=None if other is None else round(100 * other, 2),
                default=percent(default[key]) if default.get(key) is not None else None,
                chance=None if luck is None else percent(luck),
                chance_place=None if luck is None else round(100 * luck, 2),
                difference=signed(beyond[key].value) if key in beyond else None,
                interval=interval_text(beyond[key]) if key in beyond else None,
                clear=key in beyond and beyond[key].clear,
                spread=percent(spread[key]) if key in spread else None,
            )
        )
    return found


def estimated(content: RunContent) -> Estimate | None:
    """The figures on held-out seen classes, where no described class has test images."""
    return headline(content.result["metrics"], content.details)


def estimate_in_words(content: RunContent) -> list[str]:
    """Sentences on what the headline is; empty where it is of test images."""
    estimate = estimated(content)
    return [] if estimate is None else [f"{one[0].upper()}{one[1:]}." for one in what_it_is(estimate, "The model")]


def leaning_in_words(content: RunContent) -> str | None:
    """Why the baseline's S can be higher, where it is."""
    why = leaning(content.method, content.result["metrics"], content.result.get("baseline"), content.details)
    return why and f"{why}."


def _deviation(value: Mapping[str, Any] | None, *, shown: bool) -> str | None:
    return percent(value["std"]) if shown and value is not None and value["std"] is not None else None


def in_words(content: RunContent) -> str:
    """The figures in sentences; empty where none is defined."""
    metrics, estimate = content.result["metrics"], estimated(content)
    chance = content.result.get("chance") or {}
    if estimate is not None:
        metrics, chance = estimate.to_json()["metrics"], {}
    t1, u, s, h, calibrated = (metrics.get(key) for key in ("t1", "u", "s", "h", "h_calibrated"))
    sentences, kind = [], "unseen" if estimate is None else "held-out"
    if t1 is not None:
        luck = f" (chance: {_percent(chance['t1'])})" if "t1" in chance else ""
        sentences.append(
            f"When only {kind} classes can be predicted, the model classifies "
            f"{_percent(t1['mean'])} of their images correctly{luck}."
        )
    if u is not None and s is not None:
        sentences.append(
            f"When all classes can be predicted, it classifies {_percent(u['mean'])} of the images of {kind} "
            f"classes and {_percent(s['mean'])} of the images of seen classes correctly."
        )
    if h is not None:
        balance = f"The harmonic mean of these two (H) is {_percent(h['mean'])}"
        if calibrated is not None:
            balance += f", and {_percent(calibrated['mean'])} after calibration"
        sentences.append(f"{balance}.")
    return " ".join(sentences)


def _percent(value: float) -> str:
    return f"{percent(value)}\u00a0%"
