"""Schemas of run files name what the records that they check have."""

from dataclasses import fields

from dkgzsl.evaluation.metrics import Figures
from dkgzsl.runs.schema import FigureValues


def test_the_schema_of_figures_has_all_figures() -> None:
    assert list(FigureValues.model_fields) == [field.name for field in fields(Figures)]
