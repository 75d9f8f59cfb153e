"""The name of a project in a mail from the installation."""

from __future__ import annotations

import re

from sluice.model.characters import INVISIBLE

_MAX = 40  # characters
# Mail programs make a link of any word with one of these inside; the last three are dots to a browser.
_LINKS = re.compile(r"\S*[.:/\\@。．｡]\S+")
_QUOTES = re.compile(r"[\"“”„«»]")


def shown_name(name: str) -> str:
    """``name`` in quotes, short, and without anything that a mail program shows as a link or that ends the quotes.

    The recipient trusts a mail of the installation: the name is no place for a message of another sender.
    """
    words = _QUOTES.sub("", _LINKS.sub("", INVISIBLE.sub("", name))).split()
    text = " ".join(words)
    if not text:
        return "a project"
    return f'"{text if len(text) <= _MAX else text[: _MAX - 1].rstrip() + "…"}"'
