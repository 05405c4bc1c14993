"""Every test has one tier, and the tool finds tests that are too long for theirs (tools/tiers.py)."""

from pathlib import Path

import pytest

from repository_tools import load_tool
from tiers import FIRST, NAMES, TIERS, TOGETHER, may_be_quick, place_in_order, share_of, tier_of

HERE = Path(__file__).parent
tool = load_tool("tiers")

CASE = '<testcase classname="tests.data.test_{0}" name="test_{0}" time="{2}">{3}{1}</testcase>'
TIER = '<properties><property name="tier" value="{}"/></properties>'


def results(folder: Path, *cases: tuple[str, str, float], inside: str = "") -> Path:
    """A JUnit file of tests: name, tier, seconds."""
    tests = "".join(CASE.format(name, TIER.format(tier), seconds, inside) for name, tier, seconds in cases)
    path = folder / "tests.xml"
    path.write_text(f"<testsuites><testsuite>{tests}</testsuite></testsuites>")
    return path


def test_places_exist_and_are_named_once() -> None:
    places = [place for named in TIERS.values() for place in named]
    assert all((HERE / place).exists() for place in places)
    assert len(set(places)) == len(places)


def test_tiers_of_some_files() -> None:
    assert tier_of(HERE / "docs" / "test_blocks.py") == "long"
    assert tier_of(HERE / "evaluation" / "test_metrics.py") == "quick"
    assert tier_of(HERE / "estimator" / "test_estimator.py") == "standard"


def test_the_quick_tier_leaves_out_files_and_folders_without_a_quick_test() -> None:
    assert may_be_quick(HERE)
    assert may_be_quick(HERE / "evaluation")
    assert may_be_quick(HERE / "evaluation" / "test_metrics.py")
    assert may_be_quick(HERE / "docs")
    assert may_be_quick(HERE / "conftest.py")
    assert not may_be_quick(HERE / "docs" / "test_blocks.py")
    assert not may_be_quick(HERE / "cluster")


def test_the_slowest_files_begin_and_a_file_is_not_split() -> None:
    assert all((HERE / place).is_file() for place in FIRST)
    assert all((HERE.parent / folder).is_dir() for folder in TOGETHER)
    begins = [place_in_order(HERE / place) for place in FIRST]
    assert begins == sorted(begins)
    assert max(begins) < place_in_order(HERE / "test_tiers.py")
    assert share_of("tests/a.py::test_b[c::d]") == share_of("tests/a.py::test_e") == "tests/a.py"
    assert share_of("tests/report/test_a.py::test_b") == share_of("tests/report/test_c.py::test_d")


def test_this_test_has_one_tier_and_names_it(request) -> None:
    own = [name for name in NAMES if request.node.get_closest_marker(name)]
    assert own == [tier_of(Path(__file__))]
    assert ("tier", own[0]) in request.node.user_properties


@pytest.mark.long
def test_a_marker_wins_over_the_file(request) -> None:
    assert ("tier", "long") in request.node.user_properties
    assert [name for name in NAMES if request.node.get_closest_marker(name)] == ["long"]


def test_the_tool_knows_every_tier(pytestconfig) -> None:
    assert set(tool.MOST) == set(NAMES)
    registered = {line.split(":")[0] for line in pytestconfig.getini("markers")}
    assert set(NAMES) <= registered


def test_fast_tests_pass(tmp_path, capsys) -> None:
    path = results(tmp_path, ("a", "quick", 0.5), ("b", "standard", 0.2), ("c", "standard", 3.0))
    assert tool.main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "quick: 1 tests, 0 s" in printed
    assert "could be quick (below 1 s): tests/data/test_b.py\n" in printed


def test_a_test_that_is_too_long_for_its_tier_is_named(tmp_path, capsys) -> None:
    path = results(tmp_path, ("a", "quick", 2.5), ("b", "standard", 2.5))
    assert tool.main([str(path)]) == 1
    assert "too long for quick (2 s): 2.5 s  tests/data/test_a.py::test_a\n" in capsys.readouterr().out


def test_tiers_have_a_budget_together(tmp_path, capsys) -> None:
    many = [(f"m{number}", "quick", 1.5) for number in range(81)]
    assert tool.main([str(results(tmp_path, *many))]) == 1
    assert "quick: 122 s, more than 60 s on 2 cores" in capsys.readouterr().out
    assert tool.main([str(results(tmp_path, *many[:79]))]) == 0


def test_skipped_tests_do_not_count(tmp_path) -> None:
    assert tool.read(results(tmp_path, ("a", "quick", 9.0), inside="<skipped/>")) == []


@pytest.mark.parametrize("text", ["", "<testsuites>", '<testcase classname="a" name="b" time="1"/>'])
def test_other_files_are_refused(tmp_path, capsys, text) -> None:
    path = tmp_path / "tests.xml"
    path.write_text(text)
    assert tool.main([str(path)]) == 2
    assert str(path) in capsys.readouterr().err
    assert tool.main([str(tmp_path / "none.xml")]) == 2
