"""Fragments of a report. Text is escaped here; only what these functions build counts as markup."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterable

from markupsafe import Markup, escape

SHORT = 18  # characters of a value that stay on one line
LONGEST = 24  # characters of a word that a narrow screen holds on one line
SCREEN_SCALE = 0.64  # figures are rendered denser than a screen, for sharp type


def text(words: str) -> Markup:
    """One paragraph; `words` is escaped unless it is markup already."""
    return Markup("<p>{}</p>").format(words)


def figure(png: bytes, *, alt: str, caption: str | Markup) -> Markup:
    """An embedded picture with its caption.

    Args:
        png: the picture.
        alt: what it shows, for readers who cannot see it.
        caption: what to look at.
    """
    encoded = base64.b64encode(png).decode("ascii")
    width, height = (round(SCREEN_SCALE * side) for side in struct.unpack(">II", png[16:24]))  # PNG's first chunk
    return Markup(
        '<figure><img src="data:image/png;base64,{}" alt="{}" width="{}" height="{}">'
        "<figcaption>{}</figcaption></figure>"
    ).format(encoded, alt, width, height, caption)


def whole(words: str | Markup) -> Markup:
    """The words with hyphenated ones kept on one line: a browser would break 2e-14 after its hyphen."""
    if isinstance(words, Markup):
        return words

    def kept(match: re.Match[str]) -> str:
        return f'<span class="whole">{match[0]}</span>' if len(match[0]) <= LONGEST else match[0]

    return Markup(re.sub(r"\S*-\S+", kept, escape(words)))


def table(rows: Iterable[tuple[str | Markup, str | Markup, str | Markup]]) -> Markup:
    """Named figures: name, value, and what the value means."""
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th><td class="{}">{}</td><td class="meaning">{}</td></tr>').format(
            whole(name), "value short" if len(str(value)) <= SHORT else "value", whole(value), whole(meaning)
        )
        for name, value, meaning in rows
    )
    return Markup('<table class="facts">{}</table>').format(body)


def findings(sentences: Iterable[tuple[str, str]]) -> Markup:
    """Sentences to read first, each with how it is marked: "bad", "well" or ""."""
    body = Markup("").join(Markup('<li class="{}">{}</li>').format(mark, words) for words, mark in sentences)
    return Markup('<ul class="found">{}</ul>').format(body)


def code(line: str) -> Markup:
    """A command to type."""
    return Markup("<pre><code>{}</code></pre>").format(whole(line))


def join(parts: Iterable[str | Markup]) -> Markup:
    """Put fragments one after the other; plain strings are escaped."""
    return Markup("").join(escape(part) for part in parts)


def number(value: float) -> str:
    """Write a number with as many digits as a reader wants."""
    return f"{value:.6g}"
