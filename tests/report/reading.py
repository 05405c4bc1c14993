"""A page taken apart by Python's own parser."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Elements with their attributes, the text under each id, and all text.

    Attributes:
        elements: tag and attributes, in order.
        words: everything that is read as text.
        under: text inside each element that has an id.
        left_open: tags that are not closed in their order.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.under: dict[str, str] = {}
        self.left_open: list[str] = []
        self._open: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        self.left_open += [tag for tag, _ in self._open]

    def handle_starttag(self, tag, attrs):
        attributes = {key: value or "" for key, value in attrs}
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append((tag, attributes.get("id")))
            if "id" in attributes:
                self.under[attributes["id"]] = ""

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag):
        if not self._open or self._open[-1][0] != tag:
            self.left_open.append(tag)
            return
        self._open.pop()

    def handle_data(self, data):
        if any(tag == "style" for tag, _ in self._open):
            return
        self.words.append(data)
        for _, name in self._open:
            if name is not None:
                self.under[name] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for found, attributes in self.elements if found == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())
