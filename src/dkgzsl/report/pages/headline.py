"""The top of the page: what was done in one sentence, and the figures beside baseline and chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dkgzsl.report.pages.content import RunContent
from dkgzsl.report.paired import Difference, paired_differences, same_images
from dkgzsl.report.wording import FIGURES, classes, counted, name, percent, signed


@dataclass(frozen=True)
class Tile:
    """A headline figure.

    Attributes:
        key: of the result object.
        label: its name.
        meaning: in a few words.
        value: in percent; the mean, where there are several seeds.
        deviation: over the seeds, in percent, or None for one seed.
        place: from 0 to 100, or None where undefined.
        baseline: of the baseline, in percent, or None.
        baseline_place: from 0 to 100.
        default: of the default form, beside the published one, in percent, or None.
        chance: in percent, or None.
        chance_place: from 0 to 100.
        difference: to the baseline, in points, or None.
        interval: of the difference.
        clear: whether the difference's interval leaves zero out.
        spread: over classes drawn again, in percent, or None.
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


BASELINE = "ESZSL"


def sentence(content: RunContent) -> str:
    """What was done, for somebody who has never heard of it."""
    record = content.first
    result = content.result
    if record is None:
        roles = [row["role"] for row in content.classes]
        seen, unseen = roles.count("seen"), roles.count("unseen")
        trained = f"Trained on images of {classes(seen)}"
    else:
        facts = record.facts
        unseen = facts["unseen_classes"]
        trained = f"Trained on {counted(facts['training_images'], 'image')} of {classes(facts['seen_classes'])}"
    more = f"{unseen:,} more" if unseen != 1 else "one more"
    return (
        f"{trained}, this model also recognises {more} of which it has seen no image: all it knows of them is a "
        f"description ({name(result['semantics'])})."
    )


def tested(content: RunContent) -> str | None:
    """How many images it was tested on."""
    record = content.first
    if record is None:
        return None
    facts = record.facts
    return (
        f"Tested on {facts['test_unseen']:,} images of {classes(facts['unseen_classes'], 'unseen ')} "
        f"and {facts['test_seen']:,} held-out images of {classes(facts['seen_classes'], 'seen ')}."
    )


def test_evaluations(content: RunContent) -> str:
    """Whether and how often the test images were scored to choose."""
    details = content.result["seeds_detail"]
    evaluations = [detail["evaluations"] for detail in details]
    if content.on_test:
        count = sum(detail["test_evaluations"] for detail in details)
        return f"chosen on the test images, which were scored {count:,} times"
    each = "" if len(details) == 1 else " for each seed"
    tried = counted(sum(evaluations), "model was", "models were")
    return f"{tried} compared on validation images; the test images were scored once{each}, after the choice"


def differences(content: RunContent) -> dict[str, Difference]:
    """The first seed less the baseline, on the same images; empty where either kept no answers."""
    ours, theirs = content.first, content.baseline
    if ours is None or theirs is None or not same_images(ours.answers, theirs.answers):
        return {}
    return paired_differences([((ours.answers, ours.constant), (theirs.answers, theirs.constant))])


def difference_text(difference: Difference) -> str:
    """`+1.2 [+0.3, +2.0]`, in points."""
    return f"{signed(difference.value)} {interval_text(difference)}"


def interval_text(difference: Difference) -> str:
    """`[+0.3, +2.0]`, in points."""
    return f"[{signed(difference.low)}, {signed(difference.high)}]"


def tiles(content: RunContent) -> list[Tile]:
    """The figures; numbers are those of `result.json`."""
    metrics: Mapping[str, Any] = content.result["metrics"]
    baseline: Mapping[str, Any] = (content.result.get("baseline") or {}).get("figures", {})
    default: Mapping[str, Any] = (content.result.get("default") or {}).get("figures", {})
    chance: Mapping[str, float] = content.result.get("chance") or {}
    beyond = differences(content)
    spread: Mapping[str, float] = {} if content.several else content.detail.get("spread_over_classes") or {}
    found = []
    for key, (label, meaning) in FIGURES.items():
        value, other, luck = metrics.get(key), baseline.get(key), chance.get(key)
        found.append(
            Tile(
                key=key,
                label=label,
                meaning=meaning,
                value=percent(None if value is None else value["mean"]),
                deviation=percent(value["std"]) if content.several and value is not None else None,
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


def in_words(content: RunContent) -> str:
    """The headline in one sentence."""
    metrics = content.result["metrics"]
    t1, chance = metrics.get("t1"), content.result.get("chance") or {}
    told = []
    if t1 is not None:
        luck = f" (by chance {percent(chance['t1'])}\u00a0%)" if "t1" in chance else ""
        told.append(
            f"among the unseen classes alone it tells {percent(t1['mean'])}\u00a0% of the images right{luck}"
        )
    if metrics.get("u") is not None and metrics.get("s") is not None:
        told.append(
            f"among all classes together {percent(metrics['u']['mean'])}\u00a0% of the unseen and "
            f"{percent(metrics['s']['mean'])}\u00a0% of the seen ones"
        )
    if not told:
        return ""
    text = "; ".join(told)
    if metrics.get("h") is not None:
        text += f". The balance of these two, H, is {percent(metrics['h']['mean'])}\u00a0%"
        if metrics.get("h_calibrated") is not None:
            text += f", calibrated {percent(metrics['h_calibrated']['mean'])}\u00a0%"
    return text[0].upper() + text[1:] + "."
