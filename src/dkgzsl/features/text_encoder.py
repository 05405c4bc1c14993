"""Sentences to vectors, by a sentence-transformers model or by CLIP's text half."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from dkgzsl.errors import DataError
from dkgzsl.features.weights import CLIP, hub_without_waiting, why_not_fetched


def encode_texts(
    texts: Sequence[str], *, encoder: str, device: str | None = None
) -> tuple[Float32[np.ndarray, "texts semantic"], str]:
    """One vector a sentence, and the name and version of the library that made them.

    Args:
        texts: the sentences.
        encoder: a model's name, the folder that holds one, or `clip:MODEL@WEIGHTS`.
        device: where it runs (default: the library's choice).

    Raises:
        DataError: the extra is not installed, or the encoder cannot be loaded.
    """
    return (_by_clip if encoder.startswith(CLIP) else _by_sentences)(texts, encoder, device)


def absolute_name(encoder: str) -> str:
    """The name with its absolute path where it names a file or folder: later commands run in other folders."""
    kind, at, file = encoder.partition("@") if encoder.startswith(CLIP) else ("", "", encoder)
    return f"{kind}{at}{Path(file).resolve()}" if file and Path(file).exists() else encoder


def _by_clip(texts: Sequence[str], encoder: str, device: str | None) -> tuple[np.ndarray, str]:
    from dkgzsl.features.clip import load_clip

    loaded = load_clip(encoder)
    loaded.model.to(device or "cpu")
    return loaded.encode(texts), f"open_clip {loaded.version}"


def _by_sentences(texts: Sequence[str], encoder: str, device: str | None) -> tuple[np.ndarray, str]:
    try:
        import sentence_transformers
    except ImportError as error:
        raise DataError("encoding text needs an extra", fix="pip install 'dkgzsl[text]'") from error
    try:
        with hub_without_waiting():
            # Only safetensors are read: other weight files could execute code.
            model = sentence_transformers.SentenceTransformer(
                encoder, device=device, model_kwargs={"use_safetensors": True}
            )
    except Exception as error:  # of many kinds: no network, no such model, a folder of another kind
        raise DataError(
            f"the sentence encoder {encoder!r} cannot be loaded: {why_not_fetched(error)}",
            fix="name a folder that holds a sentence-transformers model with safetensors weights, "
            "or a model by name where there is a network",
        ) from error
    vectors = np.asarray(model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False), np.float32)
    return vectors, f"sentence-transformers {sentence_transformers.__version__}"
