"""What an estimator keeps besides its recognizer: as a file of its own, or from a run of `dkgzsl train`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dkgzsl.checksums import check_files
from dkgzsl.compatibility import upgraded_estimator
from dkgzsl.config import RefinementConfig, from_mapping
from dkgzsl.errors import RunError
from dkgzsl.estimator.input import Form
from dkgzsl.evaluation.metrics import Figures
from dkgzsl.methods.sections import json_value, read_train_config, settings_from
from dkgzsl.reading import check_schema, reading
from dkgzsl.runs.folder import RunFolder
from dkgzsl.runs.model_record import RecognitionRecord

FILE: Final = "estimator.json"
FORMAT: Final = "dkgzsl estimator 2"
_FIRST_FORMAT: Final = "dkgzsl estimator 1"


class _Values(BaseModel):
    """What `estimator.json` holds besides its format; `params` are checked by the classes of the settings."""

    model_config = ConfigDict(strict=True, extra="forbid")
    params: dict[str, Any]
    labels: Annotated[str, Field(pattern=r"^[<>|=]?[a-zA-Z][0-9]*$")]
    form: Form
    described: bool
    feature_names: list[str] | None
    seed: int
    setting: dict[str, Any]
    validation: dict[str, float | None] | None


@dataclass(frozen=True)
class EstimatorState:
    """Everything of a fitted estimator that its recognizer does not hold.

    Attributes:
        params: parameters of the constructor.
        labels: NumPy's name of the type of the labels in y.
        form: form of the images that `fit` took.
        described: whether classes are described.
        feature_names: names of the columns of X, where they had names.
        seed: the seed that was used.
        setting: the setting that was chosen.
        validation: its figures on held-out images.
    """

    params: Mapping[str, Any]
    labels: str
    form: Form
    described: bool
    feature_names: Sequence[str] | None
    seed: int
    setting: Mapping[str, Any]
    validation: Figures | None

    @classmethod
    def of(cls, estimator: Any) -> EstimatorState:
        """The state of a fitted `ZeroShotClassifier`."""
        params, names = estimator.get_params(deep=False), getattr(estimator, "feature_names_in_", None)
        if isinstance(estimator.random_state, np.random.RandomState):
            params["random_state"] = estimator.random_state_
        return cls(
            params=params,
            labels=estimator.classes_.dtype.str,
            form=estimator.form_,
            described=estimator.described_,
            feature_names=None if names is None else list(names),
            seed=estimator.random_state_,
            setting=estimator.setting_,
            validation=estimator.validation_,
        )

    def to_json(self) -> str:
        """The text of `estimator.json`.

        Raises:
            RunError: a parameter or a label is of a type that JSON does not know.
        """
        content = {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "format": FORMAT,
            "params": json_value(self.params),
            "validation": None if self.validation is None else asdict(self.validation),
        }
        try:
            return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        except TypeError as error:
            raise RunError(
                f"a parameter cannot be written to a file: {error}",
                fix="give numbers, texts and sequences of them",
            ) from error

    @classmethod
    def read(cls, folder: Path, record: RecognitionRecord, parameters: Sequence[str]) -> EstimatorState:
        """Read the state from an estimator's folder, or put it together from a run's.

        Args:
            folder: what `ZeroShotClassifier.save` or `dkgzsl train` wrote.
            record: the record of the recognizer there.
            parameters: names that the constructor of the estimator takes.

        Raises:
            RunError: it is damaged.
        """
        check_files(folder, (FILE,))
        if not record.features:
            raise RunError("recognizer.json is damaged: it has no size of the features", where=str(folder))
        if not (folder / FILE).is_file():
            return _of_run(folder, record)
        with reading(f"{FILE} is damaged", folder, error=RunError):
            content = json.loads((folder / FILE).read_text(encoding="utf-8"))
            found = content.pop("format")
            if found == _FIRST_FORMAT:
                content["params"] = upgraded_estimator(content["params"], where=str(folder / FILE))
            elif found != FORMAT:
                raise ValueError(f"its format is {found!r}, not {FORMAT!r}")
            params = content["params"]
            if odd := sorted(params.keys() - set(parameters)):
                raise ValueError(f"there is no parameter {odd[0]!r}")
            if params["refinement"] is not None:
                refinement = from_mapping(RefinementConfig, params["refinement"], where=str(folder / FILE))
                params["refinement"] = refinement
            if params["settings"] is not None:
                params["settings"] = settings_from(params["method"], params["settings"])
            check_schema(content, _Values, f"{FILE} is damaged", folder, error=RunError)
            if content["validation"] is not None:
                content["validation"] = Figures(**content["validation"])
            return cls(**content)

    def classes(self, names: Sequence[str]) -> np.ndarray:
        """Labels of classes by their names, sorted.

        Raises:
            RunError: a class was added on the command line, and its name is no label of the type that y had.
        """
        kind = np.dtype(self.labels)
        if kind.kind in "UO":
            return np.sort(np.array(names, dtype=object if kind.kind == "O" else None))
        try:
            found = [name == "True" for name in names] if kind.kind == "b" else np.array(names).astype(kind)
        except ValueError as error:
            raise RunError(
                f"the labels of y were {kind}, and the names of the classes are not: {error}",
                fix="name classes by numbers, as y does",
            ) from error
        return np.sort(np.asarray(found))


def _of_run(folder: Path, record: RecognitionRecord) -> EstimatorState:
    config = read_train_config(folder / "config.yaml")
    result = RunFolder.open(folder).read_result()["seeds_detail"][0]
    backbone = record.images.get("backbone") or {}
    size = (record.images.get("preprocessing") or {}).get("image_size")
    params = {
        "method": config.method,
        "settings": config.settings,
        "representation": config.representation,
        "refinement": config.refinement,
        "random_state": config.first_seed,
        "backbone": backbone.get("name"),
        "image_size": size[0] if size else None,
    }
    validation = result["validation"]
    return EstimatorState(
        params=params,
        labels="U",
        form="vectors" if len(record.features) == 1 else "regions",
        described=True,
        feature_names=None,
        seed=result["seed"],
        setting={"representation": result["representation"], **result["setting"]},
        validation=None if validation is None else Figures(**validation),
    )
