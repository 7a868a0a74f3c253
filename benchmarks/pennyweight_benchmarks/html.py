"""HTML that can't be broken into: every text is escaped when it enters; only elements made here are taken as such."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Union

# HTML's elements without content or end.
VOID = {"img", "meta"}
# NUL and its like have no place in HTML, not even escaped.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
# What an attribute "src" may be: our own pictures, nothing that is fetched.
_PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}\Z")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = Union[str, Html, None]


def element(tag: str, /, *children: Content, **attributes: str | None) -> Html:
    """Give an element; text is escaped, None left out. An attribute's underscores are dashes, a last one is dropped."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(cleaned(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in VOID:
        return Html(f"<{tag}{words}>")
    return Html(f"<{tag}{words}>{joined(*children)}</{tag}>")


def joined(*children: Content) -> Html:
    """Put texts and elements one after the other; texts are escaped."""
    return Html("".join(child if isinstance(child, Html) else escaped(child) for child in children if child))


def escaped(text: str) -> Html:
    """Escape a text."""
    return Html(html.escape(cleaned(text)))


def cleaned(text: str) -> str:
    """Replace what no document may hold: control characters and lone surrogates."""
    return _CONTROLS.sub("\ufffd", str(text))


def table(
    header: Sequence[Content],
    rows: Iterable[Sequence[Content]],
    left: int = 1,
    caption: str | None = None,
    class_: str | None = None,
) -> Html:
    """Give a table that scrolls inside its own container; the first ``left`` columns are texts, the others figures."""
    head = element("tr", *(element("th", cell, scope="col", class_=_side(k, left)) for k, cell in enumerate(header)))
    body = [element("tr", *(_cell(cell, k, left) for k, cell in enumerate(row))) for row in rows]
    title = element("caption", caption) if caption else None
    whole = element("table", title, element("thead", head), element("tbody", *body), class_=class_)
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption or "table")


def picture(uri: Any, text: str) -> Html:
    """Give an image from a PNG data URI, or the words "no picture" for anything else."""
    if not isinstance(uri, str) or not _PICTURE.match(uri):
        return element("span", "no picture", class_="nopicture")
    return element("img", src=uri, alt=text, width="20", height="20")


def embedded_json(content: Any, identifier: str) -> Html:
    """Give JSON in a script element of no executable type; nothing in it can end the element."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{html.escape(identifier)}">{text}</script>')


def _cell(cell: Content, column: int, left: int) -> Html:
    if column == 0:
        return element("th", cell, scope="row")
    return element("td", cell, class_=_side(column, left))


def _side(column: int, left: int) -> str | None:
    return None if column < left else "number"
