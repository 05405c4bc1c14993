"""A fixture for tests of what goes on around the closed form: its weights take three episodes, not fifty."""

from functools import partial

import pytest

from dkgzsl.methods.closed_form.episodes import EpisodePlan


@pytest.fixture
def few_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process; a test that starts another one has the whole plan there."""
    monkeypatch.setattr("dkgzsl.methods.closed_form.method.EpisodePlan", partial(EpisodePlan, episodes=3))
