"""The suppression check of due deliveries: a recipient may have been suppressed since the message was accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from sluice.model.address import parse_address
from sluice.model.ids import uuid7_like
from sluice.model.message import Channel
from sluice.model.suppression import SuppressionReason, describe_suppression, known_address
from sluice.runtime import failpoints
from sluice.store import splitting, suppressions
from sluice.store.config_cache import ConfigCache
from sluice.store.db import Pool
from sluice.store.recovery import PendingDelivery
from sluice.store.splitting import Division
from sluice.store.suppressions import Recipient


async def find_suppressed(
    pool: Pool, config: ConfigCache, due: Sequence[PendingDelivery]
) -> dict[UUID, tuple[UUID, str]]:
    """The deliveries of ``due`` that have suppressed recipients: the id of the delivery to fail, and why.

    An e-mail whose recipients are suppressed in part is divided: the delivery keeps the others, and the id is that of
    the new one. A delivery with an unknown attempt is left alone: it may have been sent. Two statements for a batch,
    and one more if deliveries are divided; none while no project of the batch suppresses addresses.
    """
    checked = {one.id: one for one in due if _is_checked(one, config)}
    if not checked:
        return {}
    addresses = await suppressions.addresses_of_deliveries(pool, list(checked))
    keys = {
        (id_, text): Recipient(checked[id_].project_id, checked[id_].channel, address)
        for id_, texts in addresses.items()
        for text in texts
        if (address := known_address(checked[id_].channel, text)) is not None
    }
    found = await suppressions.find(pool, list(keys.values()))
    failing: dict[UUID, tuple[UUID, str]] = {}
    divisions = []
    for id_, texts in addresses.items():
        reasons = {text: found[keys[id_, text]] for text in texts if keys.get((id_, text)) in found}
        if reasons:
            division = _divide(checked[id_], texts, reasons)
            divisions += [] if division is None else [division]
            new_id = id_ if division is None else division.others[0][0]
            failing[id_] = new_id, describe_suppression(reasons.values())
    if divisions:
        await splitting.divide(pool, divisions, in_flight=False)
        assert failpoints.hit("recovery.suppressed_divided")
    return failing


def _is_checked(pending: PendingDelivery, config: ConfigCache) -> bool:
    return config.has_suppressions(pending.project_id) and not pending.unknown_attempts


def _divide(
    pending: PendingDelivery, texts: Sequence[str], reasons: Mapping[str, SuppressionReason]
) -> Division | None:
    """How a mail that goes to some of its recipients is divided; None if all of them are suppressed."""
    left = tuple(_bare(text) for text in texts if text not in reasons)
    if pending.channel is not Channel.EMAIL or not left:
        return None
    stopped = tuple(_bare(text) for text in reasons)
    return Division(pending.id, pending.attempt_count, left, ((uuid7_like(pending.id), stopped),))


def _bare(text: str) -> str:
    """The address as an envelope has it. Accepted addresses are valid."""
    return parse_address(text).bare
