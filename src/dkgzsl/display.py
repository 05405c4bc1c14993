"""How results print: figures in percent, tables and cards of HTML for notebooks, frames of pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from html import escape
from importlib import import_module
from math import nan
from typing import Any, Final

from dkgzsl.errors import ConfigError

DASH: Final = "–"
"""Stands for a figure that is undefined."""
FIGURE_NAMES: Final = {
    "t1": "T1",
    "u": "U",
    "s": "S",
    "h": "H",
    "h_calibrated": "H calibrated",
    "ausuc": "AUSUC",
}
"""Names of the six figures of a result, in their order."""

_CELL = "padding: .2em .8em .2em 0; border: 0; border-bottom: 1px solid #8886; text-align: "


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction in percent, without the sign; a dash where it is undefined.

    Args:
        value: a fraction of 1; None or NaN is undefined.
        digits: decimals.
    """
    return DASH if value is None or value != value else str(_rounded(value, digits))


def signed(value: float) -> str:
    """A difference of fractions in percentage points, with its sign: `+1.2`, `−0.3`.

    Args:
        value: a difference of fractions of 1.
    """
    return f"{_rounded(value, 1) + 0:+}".replace("-", "\u2212")


def _rounded(value: float, digits: int) -> Decimal:
    """A fraction in percent, halves rounded up.

    A mean can be 0.9925 or 0.9924999999999999, by the order in which its parts were added. Both must print the
    same, so that digits beyond the sixth are dropped first.
    """
    return Decimal(f"{100 * value:.4f}").quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)


def mean_percent(value: Mapping[str, float] | None, *, several: bool = False) -> str:
    """A mean in percent; with several seeds also its standard deviation.

    Args:
        value: `mean` and `std` as fractions of 1; None is undefined.
        several: whether there are several seeds.
    """
    if value is None:
        return DASH
    return percent(value["mean"]) + (f" ± {percent(value['std'])}" if several else "")


def figures_line(figures: Mapping[str, float | None]) -> str:
    """`T1 100.0, U 99.1, ...`: figures in percent on one line.

    Args:
        figures: fractions of 1 by key of `FIGURE_NAMES`; a figure that is missing or None is undefined.
    """
    return ", ".join(f"{name} {percent(figures.get(key))}" for key, name in FIGURE_NAMES.items())


def html_figures(figures: Mapping[str, float | None]) -> str:
    """A table with one row of figures in percent, for notebooks.

    Args:
        figures: as in `figures_line`.
    """
    return html_table(["%", *FIGURE_NAMES.values()], [["", *(percent(figures.get(key)) for key in FIGURE_NAMES)]])


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 class`, `1,200 classes`.

    Args:
        number: how many.
        one: the word for one.
        many: the word for several (default: `one` with an s).
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def html_card(title: str, facts: Iterable[tuple[str, object]], body: str = "") -> str:
    """A title above facts and, below them, more HTML.

    Args:
        title: text; it is escaped here.
        facts: name and value of each, as text; they are escaped here.
        body: HTML; it is taken as it is.
    """
    rows = "".join(
        f'<tr><th scope="row" style="{_CELL}left; font-weight: normal; opacity: .75">{escape(name)}</th>'
        f'<td style="{_CELL}left">{escape(str(value))}</td></tr>'
        for name, value in facts
    )
    table = f'<table style="border-collapse: collapse">{rows}</table>' if rows else ""
    return f'<div style="margin: .6em 0"><strong>{escape(title)}</strong>{table}{body}</div>'


def html_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, words: int = 1) -> str:
    """A table; numbers stand on the right.

    Args:
        columns: heads, as text; they are escaped here, as cells are.
        rows: a value for each column.
        words: so many columns from the left hold words.
    """

    def line(cells: Sequence[object], tag: str) -> str:
        sides = ("left" if place < words else "right" for place in range(len(cells)))
        return "".join(
            f'<{tag} style="{_CELL}{side}">{escape(str(cell))}</{tag}>'
            for cell, side in zip(cells, sides, strict=True)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    head = f"<thead><tr>{line(columns, 'th')}</tr></thead>"
    return f'<table style="border-collapse: collapse">{head}<tbody>{body}</tbody></table>'


def data_frame(columns: Mapping[str, Iterable[Any]]) -> Any:
    """A `pandas.DataFrame`; in a column without text, None becomes NaN.

    Args:
        columns: values by name of the column, all of one length.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        pandas: Any = import_module("pandas")
    except ImportError as error:
        raise ConfigError("a table as a data frame needs pandas", fix="pip install pandas") from error
    return pandas.DataFrame({name: _undefined_as_nan(list(values)) for name, values in columns.items()})


def _undefined_as_nan(values: list[Any]) -> list[Any]:
    # pandas keeps None as an object in a column where nothing is defined.
    if all(value is None or isinstance(value, int | float) for value in values):
        return [nan if value is None else value for value in values]
    return values


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_",
        "%": r"\%",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "±": r"$\pm$", "–": "--", "\u2212": "$-$", "\u00a0": "~", "\n": " ",
    }
)  # fmt: skip


def latex_text(text: str) -> str:
    """Text with the characters escaped that LaTeX reads as commands; signs of tables become their commands."""
    return text.translate(_LATEX)


def latex_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "") -> str:
    """A table of the package booktabs (`\\usepackage{booktabs}`); the first column is left-aligned.

    Args:
        heads: heads of the columns.
        rows: cells as plain text; they are escaped.
        caption: above the table; empty for a table without `table` around it.
    """

    def line(cells: Sequence[str]) -> str:
        # Braces: a cell that begins with [ would be taken for an option of the line break before it.
        shown = (f"{{{text}}}" if text.startswith("[") else text for text in map(latex_text, cells))
        return " & ".join(shown) + r" \\"

    body = [rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule", line(heads), r"\midrule"]
    body += [*map(line, rows), r"\bottomrule", r"\end{tabular}"]
    if caption:
        body = [r"\begin{table}", r"\centering", rf"\caption{{{latex_text(caption)}}}", *body, r"\end{table}"]
    return "\n".join(body) + "\n"


def in_100(share: float) -> str:
    """A share in words: `37 of 100`; only exact shares are written as none or all."""
    cases = int(_rounded(share, 0))
    if cases == 100 and share < 1:
        return "more than 99 of 100"
    if cases == 0 and share > 0:
        return "fewer than 1 of 100"
    return f"{cases} of 100"
