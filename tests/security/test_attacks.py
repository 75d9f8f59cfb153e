"""The attacks of the review against the whole system, in a short form; ``make security`` runs the long one."""

import pytest

from tests.security import campaign

SECONDS = 1.0  # of each attack
ANSWER_WITHIN = 30.0  # seconds; a busy machine is slow, a gateway that is stopped does not answer at all


@pytest.mark.timeout(300)
async def test_no_attack_stops_another_tenant(system):
    """Findings 1 to 5, 10, 13, 16, 18 and 21, each by its attack.

    What the machine's load decides, the latency and 503, is left to the long form.
    """
    figures = await campaign.run(system, seconds=SECONDS, answer_within=ANSWER_WITHIN, progress=print)

    assert figures["attacks"] == 15
    assert {name: figures[f"other_tenant_{name}"] for name in ("lost", "unanswered", "refused")} == {
        "lost": 0,
        "unanswered": 0,
        "refused": 0,
    }
    assert figures["gateway_rss_mb"] <= campaign.MAX_RSS_MB
    assert figures["recovery_seconds"] <= 6 * campaign.RECOVERED_WITHIN
