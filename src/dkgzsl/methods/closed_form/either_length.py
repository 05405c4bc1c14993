"""The default form with and without unit length: a selector says which."""

from __future__ import annotations

from dataclasses import replace

from dkgzsl.config import ClosedFormSettings
from dkgzsl.methods.base import Model, Selector, Setting, Task
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.closed_form.model import ClosedFormModel


class EitherLength(ClosedForm):
    """Offers all that `ClosedForm` offers twice: features scaled to unit length, then features as they are.

    Unit length is the better choice with hundreds of dimensions, and a bad one with a handful, where a class may
    lie in the middle of the others and have no direction of its own.

    Args:
        config: of both; its `unit_length` is not looked at.
        seed: as `ClosedForm` takes it.
        device: likewise.
        episodes: likewise.
        queries: likewise.
    """

    def __init__(
        self,
        config: ClosedFormSettings,
        *,
        seed: int = 0,
        device: str = "cpu",
        episodes: int | None = None,
        queries: int | None = None,
    ) -> None:
        super().__init__(config, seed=seed, device=device, episodes=episodes, queries=queries)
        self._forms = {
            unit: ClosedForm(
                replace(config, unit_length=unit), seed=seed, device=device, episodes=episodes, queries=queries
            )
            for unit in ("on", "off")
        }

    def explore(self, task: Task, selector: Selector) -> None:
        """Everything with unit length first; settings say which by `unit_length`."""
        for unit, form in self._forms.items():

            def of_this_form(setting: Setting, model: Model, *, candidate: bool = True, unit: str = unit) -> float:
                return selector({**setting, "unit_length": unit}, model, candidate=candidate)

            form.explore(task, of_this_form)

    def fit(self, task: Task, setting: Setting) -> ClosedFormModel:
        """Solve the task with given constants and the chosen length."""
        return self._forms[setting["unit_length"]].fit(task, setting)
