"""The Gradio page: tabs over a `Session`. It loads nothing from other machines and sends nothing to them."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from dkgzsl.app.limits import Gate, Limits
from dkgzsl.app.pieces import STYLE, bias_html, class_html, classes_html, prediction_html
from dkgzsl.app.session import Session, read_one
from dkgzsl.app.upkeep import FOLDER, PhotoFolder, Upkeep, few_arenas
from dkgzsl.data.names import spoken_attribute
from dkgzsl.errors import ConfigError, DkgzslError
from dkgzsl.inference.photos import PhotoReader, Photos
from dkgzsl.runs.model_record import SemanticsRecord

FEW: Final = 80
"""Up to so many attributes all have a slider when the page opens."""
BIAS: Final = 10.0
"""The bias slider goes from minus this to plus this, in temperatures."""


def serve(
    session: Session, reader: PhotoReader, *, host: str, port: int | None, limits: Limits | None = None
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        session: the session that each visitor starts with.
        reader: reads images in the same way as the run's features were made.
        host: address to listen on.
        port: None takes the first free one from 7860.
        limits: what the page takes at once (default: `Limits()`).

    Raises:
        ConfigError: Gradio is not installed, or the port is taken.
    """
    limits = limits or Limits()
    sys.setswitchinterval(0.0005)  # else each of many short requests waits 5 ms for the threads that predict
    few_arenas()
    photos = PhotoFolder(limits.keep_seconds)
    try:
        page = build(session, reader)
        launch(page, host=host, port=port, limits=limits)
        upkeep = Upkeep(page, photos, limits)
        page.block_thread()
        upkeep.close()
    finally:
        photos.close()


def launch(page: Any, *, host: str, port: int | None, limits: Limits | None = None) -> str:
    """Start to serve a page that `build` made, in the background.

    Args:
        page: the page.
        host: address to listen on.
        port: None takes the first free one from 7860.
        limits: what the page takes at once (default: `Limits()`).

    Returns:
        The address of the page.

    Raises:
        ConfigError: the port is taken, or the address does not belong to this machine.
    """
    gradio, limits = _gradio(), limits or Limits()
    # Nothing gets past the queue (api_open): who comes when it is full is refused.
    page.queue(max_size=limits.waiting, default_concurrency_limit=limits.workers, api_open=False)
    from starlette.middleware import Middleware

    plain = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    try:
        _, address, _ = page.launch(
            server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, share=False, ssr_mode=False,
            footer_links=[], theme=plain, css=STYLE, inbrowser=False,
            max_file_size=f"{limits.photo_megabytes}mb", state_session_capacity=limits.visitors,
            app_kwargs={"middleware": [Middleware(Gate, limits=limits, folder=_folder())]},
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(f"the page cannot be served: {error}", fix="--port N, --host ADDRESS") from error
    print(f"the page is at {address} (Ctrl-C ends it)", flush=True)
    return str(address)


def build(session: Session, reader: PhotoReader) -> Any:
    """The page, as a `gradio.Blocks`.

    Args:
        session: the session that each visitor starts with.
        reader: reads images in the same way as the run's features were made.

    Raises:
        ConfigError: Gradio is not installed.
    """
    gradio = _gradio()
    with gradio.Blocks(title=f"dkgzsl: {session.run.name}", analytics_enabled=False) as page:
        gradio.Markdown(f"# {session.recognizer.record.dataset or session.run.name}: try the model")
        state = gradio.State(None)  # a visitor's session; None until the visitor changes it
        image = gradio.State(None)  # the last image, read
        with gradio.Tab("Try an image"):
            tried = _image_tab(gradio)
        with gradio.Tab("Classes"):
            listed = _classes_tab(gradio, session)
        with gradio.Tab("New class", visible=session.mean_description is not None):
            new = _new_class_tab(gradio, session)

        do = _Handlers(gradio, session, reader, new.columns)
        safe = do.errors_shown
        results = [tried.prediction, tried.change]
        changed = [state, listed.overview, new.overview, listed.name, new.like, *results]
        visitor = [image, tried.bias, state]
        tried.file.change(safe(do.read), [tried.file, tried.bias, state], [image, *results], api_name="predict")
        tried.bias.release(safe(do.predict_again), visitor, results, api_name="bias")
        listed.name.change(safe(do.show_class), [listed.name, state], listed.attributes, api_name="class")
        new.by_text.click(safe(do.add_by_text), [new.name, new.text, *visitor], changed, api_name="add_by_text")
        if new.columns:
            new.like.change(
                safe(do.start_from),
                [new.like, state],
                [new.picked, *new.sliders],
                api_name="start_from",
            )
        new.by_values.click(
            safe(do.add_by_values), [new.name, new.picked, *visitor, *new.sliders], changed,
            api_name="add_by_values",
        )  # fmt: skip
        new.save.click(safe(do.save), visitor, changed, api_name="save")
    return page


class _ImageTab(NamedTuple):
    file: Any
    bias: Any
    prediction: Any
    change: Any


def _image_tab(gradio: Any) -> _ImageTab:
    return _ImageTab(
        file=gradio.File(label="Image", file_types=["image"], type="filepath"),
        bias=gradio.Slider(
            -BIAS, BIAS, value=0, step=0.25, label="Bias to unseen classes",
            info="0 is the value chosen on validation classes. Each +1 multiplies the odds of unseen classes "
            "against seen classes by e (about 2.7).",
        ),
        prediction=gradio.HTML(),
        change=gradio.HTML(),
    )  # fmt: skip


class _ClassesTab(NamedTuple):
    overview: Any
    name: Any
    attributes: Any


def _classes_tab(gradio: Any, session: Session) -> _ClassesTab:
    return _ClassesTab(
        overview=gradio.HTML(classes_html(session)),
        name=gradio.Dropdown(list(session.recognizer.known_names), value=None, label="Class"),
        attributes=gradio.HTML(),
    )


class _NewClassTab(NamedTuple):
    name: Any
    text: Any
    by_text: Any
    like: Any
    columns: tuple[str, ...]
    picked: Any
    sliders: list[Any]
    by_values: Any
    save: Any
    overview: Any


def _new_class_tab(gradio: Any, session: Session) -> _NewClassTab:
    semantics, mean = session.recognizer.record.semantics, session.mean_description
    columns = (semantics.columns or ()) if mean is not None else ()
    name = gradio.Textbox(label="Name of the new class")
    text = gradio.Textbox(label="Description", lines=3, visible=semantics.encoder is not None)
    by_text = gradio.Button("Add by its description", visible=semantics.encoder is not None)
    like = gradio.Dropdown(
        list(session.recognizer.known_names), value=None, label="Start from a class",
        visible=bool(columns), info="copies the values of all its attributes",
    )  # fmt: skip
    picked, sliders, by_values = _attribute_sliders(gradio, semantics, columns, mean)
    save = gradio.Button("Save as a new version of the run")
    overview = gradio.HTML(classes_html(session))
    return _NewClassTab(name, text, by_text, like, columns, picked, sliders, by_values, save, overview)


def _attribute_sliders(
    gradio: Any, semantics: SemanticsRecord, columns: tuple[str, ...], mean: np.ndarray | None
) -> tuple[Any, list[Any], Any]:
    """A choice of attributes, a slider for each, and the button that adds the class they describe."""
    visible = list(columns) if len(columns) <= FEW else []
    labels = [spoken_attribute(column) for column in columns]
    picked = gradio.Dropdown(
        list(zip(labels, columns, strict=True)), value=visible, multiselect=True, visible=bool(columns),
        label="Attributes to set", info="the others are filled in from classes described alike",
    )  # fmt: skip
    values = () if mean is None or not columns else mean
    with gradio.Row():
        sliders = [
            gradio.Slider(
                semantics.lowest, semantics.highest, value=float(f"{value:.3g}"), label=label,
                visible=column in visible, min_width=200,
            )
            for column, label, value in zip(columns, labels, values, strict=True)
        ]  # fmt: skip
    if sliders:
        picked.change(
            lambda names: [gradio.update(visible=column in names) for column in columns], picked, sliders,
            api_name=False, show_progress="hidden",
        )  # fmt: skip
    return picked, sliders, gradio.Button("Add by its attributes", visible=bool(columns))


@dataclass(frozen=True)
class _Handlers:
    """What the controls of the page do.

    In all of them `state` is the visitor's session, or None while it is the first one, and `photos` is the last
    image, or None.

    Attributes:
        gradio: the module.
        first: the session that each visitor starts with.
        reader: reads images in the same way as the run's features were made.
        columns: attributes that have a slider.
    """

    gradio: Any
    first: Session
    reader: PhotoReader
    columns: tuple[str, ...]

    def errors_shown(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """The handler, with the user's errors shown on the page."""

        @wraps(handler)
        def wrapped(*given: Any) -> Any:
            try:
                return handler(*given)
            except DkgzslError as error:
                raise self.gradio.Error(str(error), print_exception=False) from error

        return wrapped

    def read(self, path: str | None, bias: float, state: Session | None) -> tuple[Photos | None, str, str]:
        photos = None if path is None else read_one(self.reader, Path(path))
        return photos, *self._results(state or self.first, photos, bias)

    def predict_again(self, photos: Photos | None, bias: float, state: Session | None) -> tuple[str, str]:
        if photos is None and bias:
            self.gradio.Info("The page has no photo of yours any more: please choose it again.")
        return self._results(state or self.first, photos, bias)

    def show_class(self, name: str | None, state: Session | None) -> str:
        return class_html(state or self.first, name) if name else ""

    def add_by_text(
        self, name: str, text: str, photos: Photos | None, bias: float, state: Session | None
    ) -> tuple[Any, ...]:
        return self._changed((state or self.first).with_text(name, text), photos, bias)

    def add_by_values(
        self,
        name: str,
        picked: list[str],
        photos: Photos | None,
        bias: float,
        state: Session | None,
        *values: float,
    ) -> tuple[Any, ...]:
        chosen = {column: value for column, value in zip(self.columns, values, strict=True) if column in picked}
        return self._changed((state or self.first).with_values(name, chosen), photos, bias)

    def save(self, photos: Photos | None, bias: float, state: Session | None) -> tuple[Any, ...]:
        saved = (state or self.first).saved()
        text = f"saved as version {saved.parent} of the run"
        self.gradio.Info(f"{text}; {saved.note}" if saved.note else text)
        return self._changed(saved, photos, bias)

    def start_from(self, name: str | None, state: Session | None) -> list[Any]:
        if not name:
            return [self.gradio.skip()] * (1 + len(self.columns))
        values = (state or self.first).description_of(name).tolist()
        return [list(self.columns), *(self.gradio.update(value=value, visible=True) for value in values)]

    def _results(self, session: Session, photos: Photos | None, bias: float) -> tuple[str, str]:
        if photos is None:
            return "", ""
        tried = session.predict(photos, self.reader.grid, bias=bias)
        return prediction_html(tried), bias_html(tried, bias) if bias else ""

    def _changed(self, session: Session, photos: Photos | None, bias: float) -> tuple[Any, ...]:
        names = self.gradio.update(choices=list(session.recognizer.known_names))
        overview = classes_html(session)
        return session, overview, overview, names, names, *self._results(session, photos, bias)


def _gradio() -> Any:
    # Gradio reads these at its import: no usage statistics, no request for a newer version.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # After each request Gradio would make a table of the last 10,000 requests; and keep a history of all.
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**9)
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    try:
        import gradio
        from gradio import queueing
    except ImportError as error:
        raise ConfigError("the page needs an extra", fix="pip install 'dkgzsl[app]'") from error
    if hasattr(queueing, "traceback"):
        queueing.traceback = _OneLine()
    return gradio


def _folder() -> Path | None:
    folder = os.environ.get(FOLDER)
    return Path(folder) if folder else None


class _OneLine:
    """One line on the terminal for an error; Gradio's queue prints a traceback of whatever a visitor sends."""

    def print_exc(self) -> None:
        """Print the current exception, and where it was raised."""
        error = sys.exception()
        if error is None:
            return
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        text = " ".join(str(error).split())[:200]
        print(f"dkgzsl app: a request failed: {type(error).__name__}: {text}{place}", file=sys.stderr, flush=True)
