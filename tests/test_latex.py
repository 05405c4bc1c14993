"""Tables for LaTeX: every character is escaped, every row has its cells."""

from pathlib import Path

from dkgzsl.benchmark.reproduce import Published, Reproduced
from dkgzsl.benchmark.run import Benchmarked
from dkgzsl.display import latex_table, latex_text


def test_characters_that_latex_reads_are_escaped() -> None:
    assert latex_text(r"a_b & 5 % of {x}\y $1 #2 ~ ^") == (
        r"a\_b \& 5 \% of \{x\}\textbackslash{}y \$1 \#2 \textasciitilde{} \textasciicircum{}"
    )
    assert latex_text("85.8 ± 1.4, –, \u22121") == r"85.8 $\pm$ 1.4, --, $-$1"


def test_a_table_has_its_rows_between_rules() -> None:
    lines = latex_table(["%", "T1"], [["a_b", "1.0"], ["[c]", "2.0"]]).splitlines()
    assert lines == [
        r"\begin{tabular}{lr}", r"\toprule", r"\% & T1 \\", r"\midrule", r"a\_b & 1.0 \\", r"{[c]} & 2.0 \\",
        r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip


def test_a_caption_makes_a_float() -> None:
    text = latex_table(["a", "b"], [], caption="50 %")
    assert text.startswith("\\begin{table}\n")
    assert r"\caption{50 \%}" in text


def _row(method: str) -> dict:
    figure = {"mean": 0.5, "std": 0.01}
    keys = ("t1", "u", "s", "h", "h_calibrated", "ausuc", "u_calibrated", "s_calibrated")
    empty = dict.fromkeys(("adapted", "minutes", "clock", "epoch", "epochs_trained", "schedule", "lead"))
    return {
        **empty, "method": method, "title": method, "dataset": "my_data", "features": "f", "backbone": None,
        "semantics": "att", "representation": "pooled", "protocol": "validated", "balance": "none",
        "seeds": [0, 1], "metrics": dict.fromkeys(keys, figure), "seconds": 3.0,
    }  # fmt: skip


def test_a_benchmark_has_both_tables() -> None:
    found = Benchmarked(Path("b"), [_row("one_two"), _row("three")], [])
    latex = found.to_latex()
    assert r"one\_two & 50.0 $\pm$ 1.0" in latex
    assert r"my\_data" in latex
    assert len({line.count(" & ") for line in latex.splitlines() if line.endswith(r"\\")}) == 1
    assert len(found.to_csv().splitlines()) == 3


def test_a_reproduction_has_both_tables() -> None:
    figures = {"t1": 0.6, "u": None, "s": 0.5, "h": 0.4}
    line = Published("m_1", "CUB", "r", "att", figures, "test images", "print", True, "proposed")
    found = Reproduced([(line, {}, "no features")], ())
    assert r"m\_1, CUB" in found.to_latex()
    rows = [line for line in found.to_latex().splitlines() if line.endswith(r"\\")]
    assert {row.count(" & ") for row in rows} == {4}
    assert "60.0" in found.to_csv()
