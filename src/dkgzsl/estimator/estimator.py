"""The zero-shot classifier with scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, no_type_check

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from dkgzsl.config import RefinementConfig
from dkgzsl.device import fast_products
from dkgzsl.errors import InputError
from dkgzsl.estimator.changes import adapted, synthesized
from dkgzsl.estimator.descriptions import (
    Descriptions,
    Semantics,
    check_known,
    joined_classes,
    new_label,
    vector_of,
)
from dkgzsl.estimator.file import FILE, EstimatorState
from dkgzsl.estimator.fitting import fit_described, fit_seen, recognizer_of, unsolved
from dkgzsl.estimator.input import BLOCK, block_of, feature_blocks, form_of, training_images
from dkgzsl.estimator.plan import plan_for, training_problem
from dkgzsl.inference.adaptation import digests
from dkgzsl.inference.photos import photo_reader
from dkgzsl.inference.recognizer import Recognizer

F = TypeVar("F", bound=Callable[..., Any])
# scikit-learn wants a constructor that only stores its arguments: `fit` checks them.
_only_stores: Callable[[F], F] = no_type_check


class ZeroShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Recognise classes with images, and classes that are only described.

    `fit` takes images of *seen* classes, and one vector for every class, seen or not. The classifier then
    recognises all of them. `add_class` adds a class that is described later, at once and without another fit.

    Images are feature vectors [N, C]; region tokens [N, 1 + R, C], the global token first, in memory or not
    (`dkgzsl extract` makes them); or image files, which `backbone` turns into region tokens.

    `method` names any method of the package. The default is the closed form: it whitens features by the
    within-class covariance, predicts the prototypes of described classes by kernel ridge regression, and decides
    by class densities.

    A setting with several values is chosen by validation, and so is the constant that is added to the scores of
    unseen classes: a third of the training classes counts as unseen, and a fifth of the other classes' images is
    held out. Then the method is fitted on all images. With fewer than five classes, or one image a class, nothing
    can be chosen. Then values in the middle are taken (for the closed form 512 components, shrinkage 0.6, linear
    kernels and ridge 0.1, or the nearest offered values), there is no constant, and a UserWarning says so.

    With `semantics=None` only seen classes are recognised, by the densities of the closed form; settings are
    chosen on a fifth of the images. The classifier is then a regularised discriminant analysis: linear, or with a
    kernel between images where the accuracy on held-out images is higher. Regularisation depends on the units of
    the columns: where these differ, put a StandardScaler first.

    Args:
        method: `closed-form` (default), `dkgzsl` (the published method), or any other name that
            `dkgzsl train --method` takes.
        settings: of the method: a mapping {name: value}, or an instance of the method's settings class. Names are
            those of the command line and of YAML; one value may stand where several are tried. None: the method's
            defaults.
        representation: how region tokens become a vector: one way, or several to choose from; see `TrainConfig`.
            None tries the global token, and the same with SOVR's attribute scores where `semantics` have named
            columns, which count as attributes. The published method refines the regions instead.
        epochs: passes over the training images; only for methods that train by epochs. None: the method's default.
        batch_size: images a training step, for the same methods. None: the method's default.
        refinement: settings of SOVR; None: `RefinementConfig()`.
        calibrate: whether the constant that validation chose is added to the scores of unseen classes.
        validation_classes: labels that validation treats as unseen; None: a third of the seen classes, the same at
            every fit.
        backbone: for image files: `resnet101`, `vit-b/16` or any timm name.
        weights: file of the backbone's weights; None: timm's own.
        image_size: side of the backbone's images in pixels; None: the backbone's own.
        device: `cpu`, `cuda`, ...; None: CUDA where there is one.
        random_state: seed of everything that is drawn, such as the held-out images: an int, a RandomState or None.

    Attributes:
        classes_: labels of all classes [K], seen and described, sorted.
        seen_classes_: labels of those with training images, sorted.
        unseen_classes_: labels of the others, sorted.
        n_features_in_: channels C of the features.
        feature_names_in_: names of the columns, where X was a data frame with names.
        recognizer_: the fitted model with its representation and calibration.
        setting_: what was chosen, by name.
        validation_: figures of the choice on held-out images (`Figures`); None where nothing was held out, or
            classes are not described.
        random_state_: the seed that was used.

    Example:
        >>> from dkgzsl import ZeroShotClassifier
        >>> X = [[0, 0], [0, 1], [4, 0], [4, 1], [0, 4], [0, 5]]
        >>> y = ["low left", "low left", "low right", "low right", "high left", "high left"]
        >>> where = {"low left": [1, 0, 1, 0], "low right": [1, 0, 0, 1], "high left": [0, 1, 1, 0]}
        >>> model = ZeroShotClassifier(random_state=0).fit(X, y, semantics=where)
        >>> str(model.add_class("high right", [0, 1, 0, 1]).predict([[4, 5]])[0])
        'high right'
    """

    @_only_stores
    def __init__(
        self,
        *,
        method: str = "closed-form",
        settings: Mapping[str, Any] | Any | None = None,
        representation: str | Sequence[str] | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        refinement: RefinementConfig | None = None,
        calibrate: bool = True,
        validation_classes: Sequence[Hashable] | None = None,
        backbone: str | None = None,
        weights: str | Path | None = None,
        image_size: int | None = None,
        device: str | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.method = method
        self.settings = settings
        self.representation = representation
        self.epochs = epochs
        self.batch_size = batch_size
        self.refinement = refinement
        self.calibrate = calibrate
        self.validation_classes = validation_classes
        self.backbone = backbone
        self.weights = weights
        self.image_size = image_size
        self.device = device
        self.random_state = random_state

    @fast_products()
    def fit(self, X: Any, y: Any, *, semantics: Semantics | None = None) -> ZeroShotClassifier:
        """Fit on images of seen classes and on descriptions.

        Args:
            X: feature vectors [N, C], region tokens [N, 1 + R, C], or N image files.
            y: class of each image [N].
            semantics: one vector for each class of y and for any number of classes without images: a mapping
                {class: vector}, a data frame with the classes as its index, or a `SemanticTable`. None: no class
                is described.

        Raises:
            ValueError: X or y cannot be used, there is only one class, or (`InputError`) a class of y has no
                vector, or a vector cannot be used.
            ConfigError: a parameter is unknown, out of range, or contradicts another.
        """
        with training_images(self, X, y) as (images, labels):
            known = None if semantics is None else Descriptions.of(semantics)
            problem, classes = training_problem(images, labels, known, validation_classes=self.validation_classes)
            seed = self._seed()
            plan = plan_for(self.get_params(deep=False), problem, seed=seed, described=known is not None)
            outcome = fit_seen(plan) if known is None else fit_described(plan, calibrated=self.calibrate)
            recognizer = recognizer_of(problem, outcome)
            sample = block_of(images.features, np.arange(min(BLOCK, len(labels))), recognizer)
            if not np.isfinite(recognizer.scores(sample)).all():
                raise unsolved("some scores are not finite")
            self._trained_on = digests(images.features)
        self.__dict__.pop("_reader", None)
        self.recognizer_ = recognizer
        self.classes_, self.described_, self.form_ = classes, known is not None, images.form
        self.n_features_in_ = images.features.shape[-1]
        self.setting_ = {"representation": outcome.representation, **outcome.setting}
        self.validation_, self.random_state_ = outcome.validation, seed
        return self

    def decision_function(self, X: Any) -> Float[np.ndarray, "images classes"] | Float[np.ndarray, " images"]:
        """Log-softmax of the scores, the validated constant included; the highest decides.

        The scores of the closed form are log densities, so that these are logarithms of each class's share.

        Args:
            X: images in the form that `fit` took; files where a backbone is named.

        Returns:
            One column a class, in the order of `classes_`. For two classes one number an image: the second
            class's value minus the first one's.
        """
        shares = log_softmax(self._scores(X), axis=1)
        return np.asarray(shares[:, 1] - shares[:, 0] if shares.shape[1] == 2 else shares)

    def predict(self, X: Any) -> np.ndarray:
        """The class of each image [N]: the calibrated decision among all classes.

        Args:
            X: images in the form that `fit` took; files where a backbone is named.
        """
        best = self._scores(X).argmax(1)
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: Any) -> Float[np.ndarray, "images classes"]:
        """Probability of each class, columns in the order of `classes_`; rows sum to 1.

        They are the softmax of the scores at a temperature that was fitted to held-out images; the highest one is
        the decision.

        Args:
            X: images in the form that `fit` took; files where a backbone is named.
        """
        scores = self._scores(X)
        return np.asarray(self.recognizer_.calibration.probabilities(scores))

    def predict_log_proba(self, X: Any) -> Float[np.ndarray, "images classes"]:
        """Logarithm of `predict_proba`, without underflow.

        Args:
            X: images in the form that `fit` took; files where a backbone is named.
        """
        scores = self._scores(X)
        return np.asarray(log_softmax(scores / self.recognizer_.calibration.temperature, axis=1))

    @property
    def seen_classes_(self) -> np.ndarray:
        """Labels of the classes with training images, sorted."""
        return self._labels_where(seen=True)

    @property
    def unseen_classes_(self) -> np.ndarray:
        """Labels of the classes that are known by description, sorted."""
        return self._labels_where(seen=False)

    def add_class(self, name: Any, vector: Any, X: Any = None) -> ZeroShotClassifier:
        """Recognise one more class from now on, by its description.

        No training image is needed again. Where a method only evaluates its formula for the new class, as the
        closed form does, the result is that of a fit whose `semantics` hold the class. A method that classifies by
        a softmax (`dkgzsl` and other generators) synthesizes features and trains the softmax again.

        Args:
            name: label of the class, of the type of the labels in y.
            vector: its description, by the same attributes as the other classes'.
            X: a few images of it in the form that `fit` took; they improve its prototype. None: there are none.

        Raises:
            InputError: the label is taken or of another type, the vector does not fit, or classes were not
                described to `fit`.
            RunError: the method cannot add classes, or cannot learn from a few images.
        """
        check_is_fitted(self)
        if not self.described_:
            raise InputError(
                "no class is described here, so none can be added by its description",
                fix="give semantics to fit",
            )
        label = new_label(name, self.classes_)
        classes = joined_classes(self.classes_, [label])
        recognizer: Recognizer = self.recognizer_
        described = vector_of(label, vector, size=recognizer.record.semantics.size)
        if X is None:
            self.recognizer_ = recognizer.with_class(str(label), described)
        else:
            few = np.concatenate([block[:number] for block, number in self._blocks(X)])
            self.recognizer_ = recognizer.with_class(str(label), described, few)
        self.classes_ = classes
        return self

    def remove_class(self, name: Any) -> ZeroShotClassifier:
        """Stop recognising a class; what was learned from its images stays.

        Args:
            name: label of the class.

        Raises:
            InputError: there is no such class, or only one class would be left.
            RunError: the method cannot change its classes.
        """
        check_is_fitted(self)
        label = check_known(name, self.classes_)
        if len(self.classes_) < 3:
            raise InputError("at least two classes must stay")
        self.recognizer_ = self.recognizer_.without_class(str(label))
        self.classes_ = self.classes_[[known != label for known in self.classes_.tolist()]]
        return self

    def synthesize(self, names: Sequence[Any], number: int) -> tuple[Float[np.ndarray, "_ visual"], np.ndarray]:
        """Draw features of classes from their descriptions.

        Args:
            names: labels of classes, seen or not.
            number: features a class, at least 1.

        Returns:
            Features on the scale of the training vectors, `number` for each class in the order of `names`, and
            their labels. Every call draws the same; `random_state_` is the seed.

        Raises:
            InputError: a class is not known, classes were not described to `fit`, or `number` is below 1.
            RunError: the method synthesizes no features.
        """
        check_is_fitted(self)
        return synthesized(self, names, number)

    def adapt(self, X: Any, *, force: bool = False) -> ZeroShotClassifier:
        """A new estimator whose described classes have moved to what images without labels show.

        The images may show described classes, seen ones, or both. Where they show no described class, or where
        adaptation was worth nothing on validation classes, the new estimator predicts as this one does, and a
        UserWarning says why. Images that `fit` had, and repeated ones, are left out.

        Args:
            X: images in the form that `fit` took.
            force: adapt even where it does not seem to pay.

        Raises:
            InputError: X cannot be used, classes were not described to `fit`, or the estimator was adapted to X.
            RunError: the method cannot adapt.
        """
        check_is_fitted(self)
        features = np.concatenate([block[:number] for block, number in self._blocks(X)])
        changed: ZeroShotClassifier = adapted(self, features, force=force)
        return changed

    def save(self, folder: str | Path) -> None:
        """Write the fitted estimator into a new folder, as safetensors and JSON: nothing in it can run code.

        `dkgzsl predict`, `add-class` and the other verbs that use a trained model take this folder, too.

        Raises:
            RunError: the folder holds something already, or cannot be written.
        """
        check_is_fitted(self)
        self.recognizer_.save(Path(folder), further={FILE: EstimatorState.of(self).to_json()})

    @classmethod
    def load(cls, folder: str | Path, *, version: int | None = None) -> ZeroShotClassifier:
        """Read a saved estimator, or the model of a run's first seed as an estimator.

        Args:
            folder: what `save` or `dkgzsl train` wrote.
            version: 0 is the model as it was saved or trained; `dkgzsl add-class`, `adapt` and others made
                the higher ones. None is the newest.

        Returns:
            The fitted estimator; its `settings` are an instance of the method's settings class.

        Raises:
            RunError: there is none, or it is damaged.
        """
        recognizer = Recognizer.from_run(Path(folder), version)
        state = EstimatorState.read(Path(folder), recognizer.record, cls._get_param_names())
        loaded = cls(**state.params)
        loaded.recognizer_ = recognizer
        loaded.classes_ = state.classes(recognizer.known_names)
        loaded.described_, loaded.form_ = state.described, state.form
        loaded.n_features_in_ = recognizer.record.features[-1]
        loaded.setting_, loaded.validation_ = dict(state.setting), state.validation
        loaded.random_state_ = state.seed
        if state.feature_names is not None:
            loaded.feature_names_in_ = np.array(state.feature_names, dtype=object)
        return loaded

    @fast_products()
    def _scores(self, X: Any) -> Float[np.ndarray, "images classes"]:
        """Scores with the constant on unseen classes, columns in the order of `classes_`."""
        check_is_fitted(self)
        found = [self.recognizer_.scores(block)[:number] for block, number in self._blocks(X)]
        return np.asarray(np.concatenate(found)[:, self._columns()])

    def _blocks(self, X: Any) -> Iterator[tuple[np.ndarray, int]]:
        """Features of further images; see `feature_blocks`."""
        files = form_of(X) == "files"
        if files and not hasattr(self, "_reader"):
            weights = None if self.weights is None else Path(self.weights)
            self._reader = photo_reader(self.recognizer_.record, weights=weights, device=self.device)
        reader = self._reader if files else None
        return feature_blocks(self, X, form=self.form_, recognizer=self.recognizer_, reader=reader)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_reader"}

    def _columns(self) -> list[int]:
        """Class number of each of `classes_`."""
        recognizer: Recognizer = self.recognizer_
        known = np.flatnonzero(recognizer.is_known).tolist()
        number_of = dict(zip(recognizer.known_names, known, strict=True))
        return [number_of[str(label)] for label in self.classes_.tolist()]

    def _labels_where(self, *, seen: bool) -> np.ndarray:
        check_is_fitted(self)
        return np.asarray(self.classes_[self.recognizer_.is_seen[self._columns()] == seen])

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags
