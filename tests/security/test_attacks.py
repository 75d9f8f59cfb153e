"""The attacks of the review against the whole system, in a short form; ``make security`` runs the long one."""

import pytest

from tests.security import campaign

SECONDS = 1.5  # of each attack


@pytest.mark.timeout(170)
async def test_no_attack_stops_another_tenant(system):
    """Findings 1 to 5, 10, 13, 16, 18 and 21, each by its attack. The latency is not asserted here."""
    figures = await campaign.run(system, seconds=SECONDS, progress=print)

    assert figures["attacks"] == 15
    assert {name: figures[f"other_tenant_{name}"] for name in ("lost", "5xx", "refused")} == {
        "lost": 0,
        "5xx": 0,
        "refused": 0,
    }
    assert figures["gateway_rss_mb"] <= campaign.MAX_RSS_MB
    assert figures["recovery_seconds"] <= campaign.RECOVERED_WITHIN
