"""The page, by Gradio: tabs over the functions of `session`. Nothing on it asks another machine for anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from dkgzsl.app.pieces import STYLE, answer_html, change_html, class_html, classes_html
from dkgzsl.app.session import Session, read_one
from dkgzsl.data.names import spoken_attribute
from dkgzsl.errors import ConfigError, DkgzslError
from dkgzsl.inference.photos import PhotoReader, Photos
from dkgzsl.runs.model_record import SemanticsRecord

FEW = 80
"""So many attributes have their sliders open from the start."""
BIAS = 10.0
"""The bias slider goes so far either way, in temperatures."""


def serve(session: Session, reader: PhotoReader, *, host: str, port: int | None) -> None:
    """Show the page until Ctrl-C.

    Raises:
        ConfigError: Gradio is not installed, or the port is taken.
    """
    page = build(session, reader)
    launch(page, host=host, port=port)
    page.block_thread()


def launch(page: Any, *, host: str, port: int | None) -> str:
    """Start serving a page that `build` made, in threads of its own; returns its address.

    Raises:
        ConfigError: the port is taken, or the address is not this machine's.
    """
    gradio = _gradio()
    plain = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    try:
        _, address, _ = page.launch(
            server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, share=False, ssr_mode=False,
            footer_links=[], theme=plain, css=STYLE, inbrowser=False,
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(f"the page cannot be served: {error}", fix="--port N, --host ADDRESS") from error
    print(f"the page is at {address} (Ctrl-C ends it)", flush=True)
    return str(address)


def build(session: Session, reader: PhotoReader) -> Any:
    """The page.

    Args:
        session: what every visitor starts from.
        reader: of images as the run's features were made.

    Raises:
        ConfigError: Gradio is not installed.
    """
    gradio = _gradio()
    semantics = session.recognizer.record.semantics
    with gradio.Blocks(title=f"dkgzsl: {session.run.name}", analytics_enabled=False) as page:
        now = gradio.State(None)  # a visitor's session; None as long as it is the one of the start
        image = gradio.State(None)  # the image that was read last
        gradio.Markdown(f"# {session.recognizer.record.dataset or session.run.name}: try the model")
        with gradio.Tab("Try an image"):
            given = gradio.File(label="Image", file_types=["image"], type="filepath")
            bias = gradio.Slider(
                -BIAS, BIAS, value=0, step=0.25, label="Bias to unseen classes",
                info="1 multiplies the odds of unseen classes against seen ones by e; 0 is what validation chose",
            )  # fmt: skip
            shown, changed = gradio.HTML(), gradio.HTML()
        with gradio.Tab("Classes"):
            overview = gradio.HTML(classes_html(session))
            chosen = gradio.Dropdown(list(session.recognizer.known_names), value=None, label="Class")
            described = gradio.HTML()
        usual = session.usual
        with gradio.Tab("New class", visible=usual is not None):
            name = gradio.Textbox(label="Name of the new class")
            text = gradio.Textbox(label="Description", lines=3, visible=semantics.encoder is not None)
            add_text = gradio.Button("Add by its description", visible=semantics.encoder is not None)
            columns = (semantics.columns or ()) if usual is not None else ()
            like = gradio.Dropdown(
                list(session.recognizer.known_names), value=None, label="Start from a class",
                visible=bool(columns), info="sets every attribute as it has them",
            )  # fmt: skip
            picked, sliders, add = _attribute_sliders(gradio, semantics, columns, usual)
            save = gradio.Button("Save as a new version of the run")
            said = gradio.HTML(classes_html(session))

        def scored(current: Session, photos: Photos | None, bias: float) -> tuple[str, str]:
            if photos is None:
                return "", ""
            tried = current.attempt(photos, reader.grid, bias=bias)
            return answer_html(tried), change_html(tried, bias) if bias else ""

        @_errors_shown(gradio)
        def read(path: str | None, bias: float, state: Session | None) -> tuple[Photos | None, str, str]:
            photos = None if path is None else read_one(reader, Path(path))
            return photos, *scored(state or session, photos, bias)

        @_errors_shown(gradio)
        def again(photos: Photos | None, bias: float, state: Session | None) -> tuple[str, str]:
            return scored(state or session, photos, bias)

        @_errors_shown(gradio)
        def look_up(name: str | None, state: Session | None) -> str:
            return class_html(state or session, name) if name else ""

        def after(current: Session, photos: Photos | None, bias: float) -> tuple[Any, ...]:
            names = gradio.update(choices=list(current.recognizer.known_names))
            about = classes_html(current)
            return current, about, about, names, names, *scored(current, photos, bias)

        @_errors_shown(gradio)
        def by_text(name: str, text: str, photos: Any, bias: float, state: Session | None) -> tuple[Any, ...]:
            return after((state or session).with_text(name, text), photos, bias)

        @_errors_shown(gradio)
        def by_values(
            name: str, picked: list[str], photos: Any, bias: float, state: Session | None, *values: float
        ) -> tuple[Any, ...]:
            said = {column: value for column, value in zip(columns, values, strict=True) if column in picked}
            return after((state or session).with_values(name, said), photos, bias)

        @_errors_shown(gradio)
        def keep(photos: Any, bias: float, state: Session | None) -> tuple[Any, ...]:
            return after((state or session).saved(), photos, bias)

        @_errors_shown(gradio)
        def start_from(name: str | None, state: Session | None) -> list[Any]:
            if not name:
                return [gradio.skip()] * (1 + len(columns))
            values = (state or session).description_of(name).tolist()
            return [list(columns), *(gradio.update(value=value, visible=True) for value in values)]

        everything = [now, overview, said, chosen, like, shown, changed]
        given.change(read, [given, bias, now], [image, shown, changed], api_name="predict")
        bias.release(again, [image, bias, now], [shown, changed], api_name="bias")
        chosen.change(look_up, [chosen, now], described, api_name="class")
        add_text.click(by_text, [name, text, image, bias, now], everything, api_name="add_by_text")
        if columns:
            like.change(start_from, [like, now], [picked, *sliders], api_name="start_from")
        add.click(by_values, [name, picked, image, bias, now, *sliders], everything, api_name="add_by_values")
        save.click(keep, [image, bias, now], everything, api_name="save")
    return page


def _attribute_sliders(
    gradio: Any, semantics: SemanticsRecord, columns: tuple[str, ...], usual: np.ndarray | None
) -> tuple[Any, list[Any], Any]:
    """Which attributes are said, a slider each, and the button that adds the class they describe."""
    said = list(columns) if len(columns) <= FEW else []
    labels = [spoken_attribute(column) for column in columns]
    picked = gradio.Dropdown(
        list(zip(labels, columns, strict=True)), value=said, multiselect=True, visible=bool(columns),
        label="Attributes to set", info="the others have the mean of the seen classes",
    )  # fmt: skip
    values = () if usual is None or not columns else usual
    with gradio.Row():
        sliders = [
            gradio.Slider(
                semantics.lowest, semantics.highest, value=float(f"{value:.3g}"), label=label,
                visible=column in said, min_width=200,
            )
            for column, label, value in zip(columns, labels, values, strict=True)
        ]  # fmt: skip
    if sliders:
        picked.change(
            lambda names: [gradio.update(visible=column in names) for column in columns], picked, sliders,
            api_name=False, show_progress="hidden",
        )  # fmt: skip
    return picked, sliders, gradio.Button("Add by its attributes", visible=bool(columns))


def _errors_shown(gradio: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mistakes of a visitor are said on the page, as the command line says them."""

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def telling(*given: Any) -> Any:
            try:
                return function(*given)
            except DkgzslError as error:
                raise gradio.Error(str(error), print_exception=False) from error

        return telling

    return wrapped


def _gradio() -> Any:
    # Read when Gradio is imported: no figures of use, no look for a newer version.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError as error:
        raise ConfigError("the page needs an extra", fix="pip install 'dkgzsl[app]'") from error
    return gradio
