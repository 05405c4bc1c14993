"""The page in a browser: each view by mouse and keyboard, names for a screen reader, contrast, requests."""

import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from app.runs import tiny_picture
from report.browser import Browser, find_chromium

NAMELESS = """[...document.querySelectorAll('input,select,textarea,button,a,progress,dialog,section')].filter(e =>
  e.checkVisibility() && !(e.labels?.length || e.textContent.trim() || e.getAttribute('aria-label') ||
  e.getAttribute('aria-labelledby'))).map(e => e.outerHTML.slice(0, 80))"""
PICTURES = "[...document.images].filter(e => !e.hasAttribute('alt')).map(e => e.outerHTML)"
HEADINGS = "[...document.querySelectorAll('h1,h2,h3')].filter(e => e.checkVisibility()).map(e => +e.tagName[1])"
# WCAG 2: contrast of each visible text with the nearest background that is not transparent.
PALE = """(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility({opacityProperty: true}) || e.disabled || e.closest('.quiet')) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${e.textContent.trim().slice(0, 40)}`);
  }
  return found; })()"""
WIDE = "document.documentElement.scrollWidth - innerWidth"


@pytest.fixture(scope="module")
def address(run):
    if find_chromium() is None:
        pytest.skip("there is no Chromium here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "dkgzsl.cli.main", "app", str(run), "--version", "0", "--port", str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            where = f"http://127.0.0.1:{port}/"
            assert where in server.stdout.readline()
            yield where
        finally:
            server.terminate()


@pytest.fixture
def browser(address):
    program = find_chromium()
    assert program is not None
    with Browser(program) as opened:
        shown(opened, address)
        yield opened
        outside = [a for a in opened.requests() if not a.startswith((address, "data:", "blob:", "about:"))]
        assert outside == []
        assert opened.complaints() == []


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    """Three photos of an unseen class, and a file that is none."""
    paths = [tmp_path / f"five{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(tiny_picture("05", number))
    (tmp_path / "broken.png").write_text("no picture")
    return [*paths, tmp_path / "broken.png"]


def shown(browser: Browser, address: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.call("Emulation.setEmulatedMedia", media="", features=[scheme])
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    browser.call("Page.navigate", url=address)
    waited(browser, "document.documentElement?.dataset.pictures === 'true'")


def waited(browser: Browser, condition: str) -> None:
    deadline = time.monotonic() + 60
    while not browser.value(condition):
        assert time.monotonic() < deadline, f"{condition}; the page: {browser.value('document.body.innerText')}"
        time.sleep(0.1)


def upload(browser: Browser, field: str, *paths: Path) -> None:
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector=f"#{field}")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])


def press(browser: Browser, key: str) -> None:
    code = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "Escape": 27}[key]
    text = {"Enter": "\r", " ": " "}.get(key)
    more = {"text": text} if text else {}
    for kind in ("keyDown", "keyUp"):
        given = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        browser.call("Input.dispatchKeyEvent", type=kind, **given, **(more if kind == "keyDown" else {}))


def view(browser: Browser, name: str) -> None:
    browser.value(f"location.hash = '#{name}'")
    waited(browser, f"!document.getElementById('view-{name}').hidden")


def text(browser: Browser, selector: str) -> str:
    return browser.value(f"document.querySelector('{selector}')?.innerText ?? ''")


def checked(browser: Browser) -> None:
    """What every state of every view holds."""
    assert browser.value(NAMELESS) == []
    assert browser.value(PICTURES) == []
    assert browser.value(PALE) == []
    assert browser.value(WIDE) <= 0, "wider than the window"
    levels = browser.value(HEADINGS)
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= before + 1 for before, later in pairwise(levels))


def test_a_photo_is_recognised(browser, pictures) -> None:
    checked(browser)
    upload(browser, "photo", pictures[0])
    waited(browser, "document.querySelector('.verdict')?.innerText === 'Probably 05'")
    assert browser.value("document.getElementById('photo-picture').naturalWidth") == 16, "the picture is there"
    assert "The model has never seen a photo of 05" in text(browser, "#result-found")
    assert "over 99 %" in text(browser, ".bars")
    assert text(browser, "#status").startswith("Probably 05, over 99 %. Nearest rival: ")
    assert "Typical of 05, and in the photo: " in text(browser, "#result-found")
    checked(browser)
    upload(browser, "photo", pictures[3])
    waited(browser, "document.getElementById('error-photo').innerText.includes('cannot be read as a photo')")
    assert browser.value("document.getElementById('result-found').hidden")
    checked(browser)


def test_an_example_by_keyboard(browser) -> None:
    for _ in range(20):
        press(browser, "Tab")
        assert browser.value("getComputedStyle(document.activeElement).outlineStyle !== 'none' || "
                             "document.activeElement.id === 'photo'"), "the focus is visible"  # fmt: skip
        if browser.value("document.activeElement.className === 'example'"):
            break
    press(browser, "Enter")
    waited(browser, "document.querySelector('.truth') !== null")
    assert "orrect: this test image shows " in text(browser, ".truth")
    assert browser.value("document.activeElement.getAttribute('aria-pressed')") == "true"


def test_the_gallery_is_searched_and_a_class_is_opened(browser) -> None:
    view(browser, "classes")
    waited(browser, "document.querySelectorAll('#gallery li').length === 100")
    checked(browser)
    browser.value("document.getElementById('find-class').focus()")
    browser.call("Input.insertText", text="loop whole")
    browser.value("document.getElementById('kind-unseen').click()")
    waited(browser, "document.querySelectorAll('#gallery li').length < 20")
    assert " of 100 classes" in text(browser, "#class-number")
    browser.value("document.querySelector('#gallery button').focus()")
    press(browser, "Enter")
    waited(browser, "document.querySelector('dialog').open")
    assert "The model has never seen a photo of this class." in text(browser, "dialog")
    checked(browser)
    press(browser, "Escape")
    waited(browser, "!document.querySelector('dialog').open && document.activeElement.className === 'class'")


def test_a_class_is_described_and_recognised(browser, pictures, tmp_path) -> None:
    view(browser, "new")
    checked(browser)
    browser.value("document.getElementById('add').click()")
    waited(browser, "document.getElementById('error-name').innerText === 'Give the class a name.'")
    assert browser.value("document.activeElement.id") == "name"
    browser.call("Input.insertText", text="<b>mine</b>")
    browser.value("document.getElementById('find').focus()")
    browser.call("Input.insertText", text="left loop")
    waited(browser, "document.querySelectorAll('#found button').length === 3")
    press(browser, "Enter")
    waited(browser, "document.querySelectorAll('#chosen input[type=range]').length === 1")
    assert browser.value("document.activeElement.type") == "range"
    assert text(browser, "#chosen output") == "1"
    browser.value("document.getElementById('text').value = 'right loop below, no left narrow'")
    browser.value("document.getElementById('from-text').click()")
    waited(browser, "document.querySelectorAll('#chosen input[type=range]').length === 3")
    assert browser.value("[...document.querySelectorAll('#chosen output')].map(e => e.innerText)") == [
        "1",
        "1",
        "0",
    ]
    browser.value("(e => {e.value = '05'; e.dispatchEvent(new Event('change'))})(document.getElementById('like'))")
    waited(browser, "document.getElementById('chosen-note').innerText === 'All other attributes are as in 05.'")
    upload(browser, "few", *pictures[:2])
    waited(browser, "document.getElementById('few-text').innerText.includes('most like 05')")
    checked(browser)
    browser.value("document.getElementById('add').click()")
    waited(browser, "document.getElementById('added').innerText.includes('<b>mine</b> is added.')")
    assert "Not saved yet: <b>mine</b>." in text(browser, "#unsaved")
    checked(browser)
    browser.value("document.getElementById('save').click()")
    waited(browser, "document.getElementById('unsaved').hidden")
    assert "Saved as version " in text(browser, "#version")


def test_photos_without_labels(browser, pictures) -> None:
    view(browser, "many")
    checked(browser)
    upload(browser, "many", *pictures)
    waited(browser, "!document.getElementById('many-buttons').hidden")
    assert text(browser, "#many-caption") == "4 photos, 1 of them not readable"
    assert "cannot be read as a photo" in text(browser, "#many-rows")
    browser.value(
        "URL.createObjectURL = (blob => { blob.text().then(t => { window.table = t }); return '#many' })"
    )
    browser.value("document.getElementById('download').click()")
    waited(browser, "window.table?.includes('broken.png')")
    lines = browser.value("window.table").splitlines()
    assert lines[0] == '"photo","class","probability","seen or unseen","remark"'
    assert lines[1].startswith('"five0.png","05","')
    browser.value("document.getElementById('adapt').click()")
    waited(browser, "document.getElementById('adapted').innerText.startsWith('The model ')")
    checked(browser)


@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False), (390, True)])
def test_every_view_on_a_phone_and_in_the_dark(browser, address, pictures, width: int, dark: bool) -> None:
    shown(browser, address, width=width, height=844, dark=dark)
    upload(browser, "photo", pictures[0])
    waited(browser, "document.querySelector('.verdict') !== null")
    browser.value("document.querySelectorAll('#result summary').forEach(e => e.click())")
    checked(browser)
    for name in ("classes", "new", "many"):
        view(browser, name)
        checked(browser)
