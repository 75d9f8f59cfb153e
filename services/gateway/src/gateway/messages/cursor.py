"""The cursor of the list of messages: where a walk stands, as an opaque text."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from gateway.errors import ValidationFailed
from sluice.model.ids import milliseconds_of
from sluice.store.message_list import Position

MAX_LENGTH = 4_000  # characters: a snapshot names the transactions that were open
_HEAD = struct.Struct(">16s16sQ")
_NONE = bytes(16)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SNAPSHOT = re.compile(r"([0-9]{1,18}):([0-9]{1,18}):((?:[0-9]{1,18}(?:,[0-9]{1,18})*)?)")
_EARLIEST, _LATEST = 1 << 40, 1 << 43  # milliseconds since the epoch, in the years 2004 and 2248


def encode_position(position: Position) -> str:
    """The cursor of the page that begins at ``position``."""
    late = _NONE if position.late_before is None else position.late_before.bytes
    head = _HEAD.pack(position.before.bytes, late, milliseconds_of(position.started_at))
    snapshots = position.snapshot + ("" if position.late_snapshot is None else f" {position.late_snapshot}")
    return base64.urlsafe_b64encode(head + snapshots.encode()).decode().rstrip("=")


def decode_position(text: str) -> Position:
    """The position in a cursor.

    Raises:
        ValidationFailed: the text is not a cursor.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        before, late, started_at = _HEAD.unpack_from(data)
        snapshot, _, late_snapshot = data[_HEAD.size :].decode("ascii").partition(" ")
        if not _EARLIEST < started_at < _LATEST or bool(late_snapshot) != (late != _NONE):
            raise ValueError
        return Position(
            UUID(bytes=before),
            _EPOCH + timedelta(milliseconds=started_at),
            _checked(snapshot),
            UUID(bytes=late) if late_snapshot else None,
            _checked(late_snapshot) if late_snapshot else None,
        )
    except (binascii.Error, ValueError, struct.error):
        raise ValidationFailed("cursor: is not a cursor of this list", field="cursor") from None


def _checked(snapshot: str) -> str:
    """``snapshot``, if PostgreSQL can read it: the open transactions lie between its bounds, in order."""
    found = _SNAPSHOT.fullmatch(snapshot)
    if found is None:
        raise ValueError
    first, end = int(found[1]), int(found[2])
    open_ones = [int(part) for part in found[3].split(",") if part]
    ordered = all(one < following for one, following in pairwise(open_ones))
    if not 0 < first <= end or not ordered or (open_ones and not (first <= open_ones[0] and open_ones[-1] < end)):
        raise ValueError
    return snapshot
