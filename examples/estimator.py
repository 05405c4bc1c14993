"""Learn eighty two-digit numbers from images, add twenty by their descriptions, classify images of these.

python examples/estimator.py
"""

import tempfile
from pathlib import Path

import numpy as np

from dkgzsl import ZeroShotClassifier, load_dataset


def main() -> None:
    """Fit, add classes, predict, save and load."""
    numbers = load_dataset("numbers")
    names = np.array(numbers.class_names)
    described = dict(zip(names, numbers.semantics, strict=True))  # which strokes draw each digit
    training, test = numbers.parts.trainval, numbers.parts.test_unseen

    seen = {name: described[name] for name in names[numbers.seen_classes]}
    model = ZeroShotClassifier(method="closed-form", random_state=0)
    model.fit(numbers.features[training], names[numbers.labels[training]], semantics=seen)
    print(f"learned {len(model.classes_)} numbers from {len(training)} images")

    for name in names[numbers.unseen_classes]:
        model.add_class(name, described[name])
    accuracy = model.score(numbers.features[test], names[numbers.labels[test]])
    print(
        f"numbers without a training image, among all {len(model.classes_)}: {accuracy:.3f} classified correctly"
    )

    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        again = ZeroShotClassifier.load(Path(folder) / "model")
    image = numbers.features[test[:1]]
    probability = again.predict_proba(image).max()
    print(f"an image of {names[numbers.labels[test[0]]]} is read as {again.predict(image)[0]} ({probability:.2f})")


if __name__ == "__main__":
    main()
