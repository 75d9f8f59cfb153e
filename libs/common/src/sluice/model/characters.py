"""Characters that cannot be stored; that cannot be seen, or change the order in which others are seen.

The latter make one address, name or file name look like another.
"""

from __future__ import annotations

import re

# Default_Ignorable_Code_Point of Unicode, the interlinear annotation marks, and the blank Braille pattern.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Between visible characters, joiners and variation selectors are part of several scripts and of emoji.
_VISIBLE = r"[^\s\u200c\u200d\ufe00-\ufe0f]"
_PART_OF_TEXT = re.compile(rf"(?<={_VISIBLE})[\ufe00-\ufe0f]?(?:[\u200c\u200d](?={_VISIBLE}))?")


def as_storable(text: str, limit: int) -> str:
    """At most ``limit`` characters of a text from outside, as PostgreSQL and UTF-8 can represent them.

    NUL and half surrogate pairs are replaced: nothing is lost because of a text that comes with it.
    """
    return text[:limit].replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def has_invisible(text: str) -> bool:
    """Whether a name contains an invisible or a bidirectional control character that is not part of its script."""
    if text.isascii() or not INVISIBLE.search(text):
        return False
    return INVISIBLE.search(_PART_OF_TEXT.sub("", text)) is not None
