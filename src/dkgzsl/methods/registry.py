"""Which methods there are, and how a saved model finds the one that made it."""

from __future__ import annotations

from importlib import import_module

from dkgzsl.errors import RunError, nearest
from dkgzsl.methods.base import Model, SavedModel

# name in a model file -> module and class of the model, whose `load` makes it again
_MODELS = {
    "dkgzsl": ("dkgzsl.methods.knowledge_model", "KnowledgeModel"),
    "dkgzsl-softmax": ("dkgzsl.methods.knowledge_softmax", "SoftmaxModel"),
    "eszsl": ("dkgzsl.methods.peers.eszsl", "BilinearModel"),
    "paper": ("dkgzsl.methods.paper", "PaperModel"),
}


def load_model(saved: SavedModel) -> Model:
    """The model that was saved.

    Raises:
        RunError: no model of that name is known.
    """
    if saved.method not in _MODELS:
        raise RunError(f"unknown method {saved.method!r}", fix=nearest(saved.method, _MODELS, of="methods"))
    module, name = _MODELS[saved.method]
    model: Model = getattr(import_module(module), name).load(saved)
    return model
