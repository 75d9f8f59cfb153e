"""Which provider took a delivery: not the one that is being called, nor one that has refused it."""

from __future__ import annotations

from sluice.model.state import STATE_ASSERTED_BY, TAKEN_TYPES

_TYPES = ", ".join(sorted(repr(one.value) for one in TAKEN_TYPES))
_STATES = ", ".join(sorted(repr(state.value) for one in TAKEN_TYPES if (state := STATE_ASSERTED_BY[one]) is not None))


def taken_by(delivery: str) -> str:
    """The SQL expression of the provider that took ``delivery``, a row of ``deliveries``; null while none has.

    ``deliveries.provider_id`` is that of the newest attempt. Nearly all deliveries that were taken have one attempt; of
    the others the events say it, each found by its key.
    """
    return f"""CASE WHEN {delivery}.attempt_count = 0 THEN NULL
        WHEN {delivery}.attempt_count = 1 AND {delivery}.state IN ({_STATES}) THEN {delivery}.provider_id
        ELSE (SELECT taken.provider_id FROM events taken
               WHERE taken.delivery_id = {delivery}.id AND taken.type IN ({_TYPES})
               ORDER BY taken.sequence DESC LIMIT 1) END"""  # noqa: S608  constants
