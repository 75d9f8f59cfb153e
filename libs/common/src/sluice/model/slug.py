"""Slugs: the names of projects in paths and headers."""

from __future__ import annotations

import re
import unicodedata

SLUG = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


def is_slug(text: str) -> bool:
    """Whether ``text`` may be a slug."""
    return re.fullmatch(SLUG.strip("^$"), text) is not None


def slug_of(name: str) -> str:
    """A slug in the words of ``name``.

    Raises:
        ValueError: the name has no letter or digit that a slug can have.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:63].strip("-")
    if not slug:
        raise ValueError("is required for a name without Latin letters and digits")
    return slug
