"""The bar: where it stands in a resumed training, and in stages that take turns."""

from dkgzsl.runs.progress import Reporter, _Count


def test_a_resumed_training_is_shown_where_it_is() -> None:
    reporter = Reporter()
    reporter.stage("seed 0", None)
    reporter.reach("training", 41, 100)
    reporter.reach("training", 42, 100)
    (bar,) = reporter._progress.tasks
    assert (bar.description, bar.completed, bar.total) == ("training", 42, 100)
    reporter.reach("refining", 7, 600, note="loss 1.00")
    (bar,) = reporter._progress.tasks
    assert (bar.description, bar.completed, bar.total) == ("refining", 7, 600)


def test_the_count_names_a_total_only_where_it_is_known() -> None:
    reporter = Reporter(quiet=True)
    shown = []
    for total in (None, 1200):
        reporter.stage("settings tried", total)
        reporter.reach("settings tried", 41, total)
        shown.append(_Count().render(reporter._progress.tasks[-1]).plain)
    assert shown == ["41", "41 of 1,200"]
