"""The page in a real browser: no requests, no warnings, no element wider than a phone."""

import pytest

from dkgzsl.cli.main import main
from report.browser import Browser, find_chromium

CHROMIUM = find_chromium()
WIDE = """[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1
  && !e.closest('.scroll') && !e.closest('pre')).map(e => e.tagName)"""
SMALL = """Math.min(...[...document.querySelectorAll('svg.chart text')].map(e =>
  parseFloat(getComputedStyle(e).fontSize) * e.closest('svg').getBoundingClientRect().width / 330))"""


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    with Browser(CHROMIUM) as opened:
        yield opened


@pytest.mark.parametrize("kind", ["default", "published", "oracle", "seeds", "comparison"])
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (360, False)])
def test_the_page_in_a_browser(browser, kind, width, dark, request, tmp_path) -> None:
    if kind == "comparison":
        page = tmp_path / "comparison.html"
        runs = [str(request.getfixturevalue(f"{name}_run")) for name in ("default", "published", "seeds")]
        assert main(["report", *runs, "--out", str(page)]) == 0
    else:
        page = request.getfixturevalue(f"{kind}_run") / "report.html"
    browser.open(page, width=width, dark=dark)
    asked = [address for address in browser.requests() if not address.startswith("data:")]
    assert asked == [page.resolve().as_uri()]
    assert browser.complaints() == []
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(WIDE) == []
    assert browser.value(SMALL) >= 9
    paper = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 200) == dark


def test_a_request_would_be_seen(browser, tmp_path) -> None:
    """The test above can fail: the same eyes see a request, a complaint and a page that is too wide."""
    page = tmp_path / "page.html"
    page.write_text('<body><img src="missing.png"><div style="width: 900px">x</div><script>oops()</script>')
    browser.open(page, width=360)
    assert any("missing.png" in address for address in browser.requests())
    assert browser.complaints()
    assert browser.value(WIDE)
