"""`sluice explain`: the stored decisions in words."""

from sluice_cli.explain import explanation


def a_candidate(name, priority, excluded=None, evidence=None):
    return {
        "provider": {"id": "prv_1", "name": name},
        "priority": priority,
        "excluded": excluded,
        "evidence": evidence,
    }


def an_event(kind, detail="", attempt=None, routing=None):
    return {
        "type": kind,
        "attempt": attempt,
        "recipient": "+4915112345678",
        "detail": detail,
        "routing": routing,
        "created_at": "2026-11-28T16:02:11.500Z",
    }


def a_message(*events):
    return {"id": "msg_1", "status": "SENT", "channel": "sms", "to": ["+4915112345678"], "events": list(events)}


def a_decision(*candidates, **changes):
    return {
        "decision": "selected",
        "policy": "adaptive",
        "destination": "+49",
        "provider": {"id": "prv_2", "name": "second"},
        "reason": "priority 2",
        "until": None,
        "candidates": list(candidates),
    } | changes


def test_each_candidate_has_its_verdict_and_its_evidence():
    evidence = {"status": "unhealthy", "error_rate": 0.412, "attempts": 31.5, "reason": "5 consecutive failures"}
    decision = a_decision(
        a_candidate("first", 1, "unhealthy: 5 consecutive failures", evidence), a_candidate("second", 2)
    )

    text = explanation(a_message(an_event("accepted"), an_event("sending", attempt=1, routing=decision)))

    assert text.splitlines() == [
        "msg_1: SENT, sms to +4915112345678",
        "",
        "Attempt 1 for +4915112345678 at 16:02:11: second",
        "  decided by recent health, destination +49; reason: priority 2",
        "    1  first: unhealthy: 5 consecutive failures (unhealthy, 5 consecutive failures; 41.2% errors, 31.5 recent "
        "attempts)",
        "    2  second: selected (no evidence about it)",
    ]


def test_the_results_follow_the_decisions():
    text = explanation(
        a_message(
            an_event("sending", attempt=1, routing=a_decision()),
            an_event("attempt_failed", "500", attempt=1),
            an_event("postponed", "all providers suspended until 16:03:00"),
        )
    )

    assert text.splitlines()[-2:] == [
        "  16:02:11 attempt_failed (attempt 1): 500",
        "  16:02:11 postponed: all providers suspended until 16:03:00",
    ]


def test_a_test_message_is_explained():
    decision = a_decision(policy=None, destination=None, reason="the API key is a test key")

    assert "decided the message is of a test key; reason" in explanation(a_message(an_event("sending", 1, 1, decision)))


def test_a_message_without_an_attempt():
    assert explanation(a_message(an_event("accepted"))).endswith("No provider was selected yet.")


def test_no_text_of_a_provider_reaches_the_terminal_as_a_command():
    assert "\x1b" not in explanation(a_message(an_event("failed", "\x1b[2J")))
