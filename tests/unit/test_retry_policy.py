"""The resolution of every outcome, for each delivery class and for idempotent and other providers."""

from datetime import timedelta
from functools import partial

import pytest

from sluice.delivery.retry_policy import (
    MAX_THROTTLE,
    defer,
    exhaust_round,
    expire,
    next_round_before,
    resolve,
    throttle_duration,
)
from sluice.model.message import DeliveryClass
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    ProviderFault,
    RecipientRejected,
    Scope,
    Throttled,
    Unknown,
    outcome_name,
)
from sluice.model.reasons import Reason
from sluice.model.state import SETTLED, STATE_ASSERTED_BY, EventType
from sluice.routing.selection import MAX_SAME_KEY_RETRIES
from tests.examples import NOON, a_policy, a_retry_handle, a_task, after, an_id, seconds

OUTCOMES = [
    Accepted("their-1"),
    RecipientRejected(Reason.UNKNOWN_RECIPIENT, "no such mailbox"),
    Declined(Reason.TOO_LARGE, "too large"),
    Throttled("slow down", seconds(30)),
    AuthFailed("bad key"),
    ProviderFault("503"),
    Unknown("no answer"),
]
DEFINITE = [Declined(Reason.SENDER, "not here"), Throttled("slow down"), AuthFailed("bad key"), ProviderFault("503")]
POLICY = a_policy(requeue_after=8, unknown_outcome_wait=60, same_key_retry_delay=2, retry_schedule=(5.0, 30.0))


def resolved(task, outcome, *, idempotent=False, retry_handle=None):
    return resolve(task, retry_handle or a_retry_handle(), outcome, idempotent=idempotent, at=NOON, policy=POLICY)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=outcome_name)
@pytest.mark.parametrize("delivery_class", DeliveryClass)
@pytest.mark.parametrize("idempotent", [True, False])
def test_every_outcome_settles_the_delivery_or_leaves_it_due(outcome, delivery_class, idempotent):
    transition = resolved(a_task(delivery_class=delivery_class), outcome, idempotent=idempotent).transition

    ends = STATE_ASSERTED_BY[transition.type] in SETTLED
    assert ends == (transition.due_at is None)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=outcome_name)
@pytest.mark.parametrize("delivery_class", DeliveryClass)
@pytest.mark.parametrize("idempotent", [True, False])
def test_every_transition_is_a_compare_and_set_on_the_attempt_in_flight(outcome, delivery_class, idempotent):
    task, handle = a_task(delivery_class=delivery_class, attempt=3), a_retry_handle()

    transition = resolved(task, outcome, idempotent=idempotent, retry_handle=handle).transition

    assert (transition.delivery_id, transition.attempt, transition.in_flight) == (task.delivery_id, 3, True)
    assert (transition.provider_id, transition.outcome) == (handle.provider_id, outcome_name(outcome))


@pytest.mark.parametrize("outcome", OUTCOMES, ids=outcome_name)
@pytest.mark.parametrize("delivery_class", DeliveryClass)
@pytest.mark.parametrize("idempotent", [True, False])
def test_only_an_unknown_outcome_is_counted_as_unknown(outcome, delivery_class, idempotent):
    resolution = resolved(a_task(delivery_class=delivery_class, unknown_attempts=1), outcome, idempotent=idempotent)

    unknown = isinstance(outcome, Unknown)
    assert resolution.transition.unknown == unknown
    assert resolution.next_task is None or resolution.next_task.unknown_attempts == 1 + unknown


def test_an_accepted_message_is_sent_with_the_provider_message_id():
    transition = resolved(a_task(), Accepted("their-1")).transition

    assert (transition.type, transition.provider_message_id) == (EventType.SENT, "their-1")


def test_the_ids_of_later_receipts_are_kept_with_the_attempt():
    step = resolved(a_task(), Accepted("part-1", ("part-1", "part-2"))).transition

    assert step.receipt_ids == ("part-1", "part-2")


@pytest.mark.parametrize("outcome", [RecipientRejected(Reason.FULL, "x"), Declined(Reason.FULL, "x")], ids=outcome_name)
def test_a_refusal_keeps_its_reason(outcome):
    assert resolved(a_task(), outcome).transition.reason is Reason.FULL


def test_a_rejected_message_fails_at_once():
    resolution = resolved(a_task(), RecipientRejected(Reason.UNKNOWN_RECIPIENT, "no such mailbox"))

    assert (resolution.transition.type, resolution.transition.detail, resolution.next_task) == (
        EventType.FAILED,
        "no such mailbox",
        None,
    )


@pytest.mark.parametrize("outcome", DEFINITE, ids=outcome_name)
@pytest.mark.parametrize("delivery_class", DeliveryClass)
def test_a_definite_failure_goes_to_another_provider_at_once(outcome, delivery_class):
    handle = a_retry_handle()

    resolution = resolved(a_task(delivery_class=delivery_class, attempt=2), outcome, retry_handle=handle)

    assert (resolution.next_task.attempt, resolution.next_task.attempted_providers) == (3, (handle.provider_id,))
    assert (resolution.transition.due_at, resolution.transition.enqueued_at) == (after(8), NOON)


def test_the_attempted_providers_of_the_round_are_kept():
    earlier, handle = an_id(), a_retry_handle()

    resolution = resolved(a_task(attempted_providers=(earlier,)), ProviderFault("503"), retry_handle=handle)

    assert resolution.next_task.attempted_providers == (earlier, handle.provider_id)


@pytest.mark.parametrize("idempotent", [True, False])
def test_class_once_is_never_retried(idempotent):
    resolution = resolved(a_task(delivery_class=DeliveryClass.ONCE), Unknown("no answer"), idempotent=idempotent)

    assert (resolution.transition.type, resolution.next_task) == (EventType.UNCONFIRMED, None)


@pytest.mark.parametrize("idempotent", [True, False])
def test_class_urgent_is_retried_at_once(idempotent):
    resolution = resolved(a_task(delivery_class=DeliveryClass.URGENT), Unknown("no answer"), idempotent=idempotent)

    assert resolution.next_task is not None
    assert resolution.transition.enqueued_at == NOON


def test_class_urgent_keeps_the_old_reference_only_for_an_idempotent_provider():
    handle = a_retry_handle()

    tasks = [
        resolved(
            a_task(delivery_class=DeliveryClass.URGENT), Unknown("?"), idempotent=idempotent, retry_handle=handle
        ).next_task
        for idempotent in (True, False)
    ]

    assert [task.retry_handle for task in tasks] == [handle, None]


def test_class_standard_waits_for_a_receipt():
    resolution = resolved(a_task(), Unknown("no answer"))

    assert (resolution.transition.due_at, resolution.transition.enqueued_at, resolution.next_task) == (
        after(60),
        None,
        None,
    )


def test_class_standard_retries_soon_where_a_retry_cannot_cause_a_duplicate():
    resolution = resolved(a_task(), Unknown("no answer"), idempotent=True)

    assert (resolution.transition.due_at, resolution.next_task) == (after(2), None)


def test_same_key_retries_are_bounded():
    resolution = resolved(a_task(unknown_attempts=MAX_SAME_KEY_RETRIES), Unknown("no answer"), idempotent=True)

    assert resolution.transition.due_at == after(60)


@pytest.mark.parametrize("delivery_class", DeliveryClass)
def test_an_unknown_outcome_states_that_a_duplicate_is_possible(delivery_class):
    transition = resolved(a_task(delivery_class=delivery_class), Unknown("no answer")).transition

    assert transition.detail == "no answer; the message may have been sent: a duplicate is possible"


def test_the_next_round_is_scheduled():
    transition = exhaust_round(a_task(retry_round=2, attempt=5), reason="all down", at=NOON, policy=POLICY).transition

    assert (transition.type, transition.due_at, transition.next_round) == (EventType.POSTPONED, after(30), True)
    assert (transition.attempt, transition.in_flight) == (4, False)


@pytest.mark.parametrize(("unknown_attempts", "event_type"), [(0, EventType.FAILED), (1, EventType.UNCONFIRMED)])
def test_after_the_last_round_the_delivery_is_settled(unknown_attempts, event_type):
    transition = exhaust_round(
        a_task(retry_round=3, unknown_attempts=unknown_attempts), reason="all down", at=NOON, policy=POLICY
    ).transition

    assert (transition.type, transition.due_at, transition.next_round) == (event_type, None, False)


def test_without_a_retry_schedule_the_first_round_is_the_last():
    transition = exhaust_round(a_task(), reason="all down", at=NOON, policy=a_policy(retry_schedule=())).transition

    assert transition.type is EventType.FAILED


# -- U2: greylisting --------------------------------------------------------------------------------------------------


def rounds(task, policy):
    """The pauses before each further round, in seconds, until the delivery is settled or expires."""
    pauses, at = [], NOON
    while at < task.expires_at:
        transition = exhaust_round(task, reason="greylisted", at=at, policy=policy).transition
        if transition.due_at is None:
            return pauses
        pauses.append((transition.due_at - at).total_seconds())
        task, at = task.model_copy(update={"retry_round": task.retry_round + 1}), transition.due_at
    return pauses


def test_u2_a_throttled_delivery_is_tried_for_its_whole_life():
    pauses = rounds(a_task(throttled=True, expires_at=NOON + timedelta(hours=72)), a_policy())

    assert pauses[:8] == [5, 30, 120, 600, 900, 1800, 3600, 3600]
    assert max(pauses) == 3600
    assert sum(pauses) == timedelta(hours=72).total_seconds()


def test_u2_any_other_delivery_fails_after_the_schedule():
    assert rounds(a_task(expires_at=NOON + timedelta(hours=72)), a_policy()) == [5, 30, 120, 600]


def test_u2_an_urgent_delivery_is_tried_more_often_towards_its_end():
    pauses = rounds(a_task(throttled=True, expires_at=NOON + timedelta(minutes=10)), a_policy())

    assert pauses[:3] == [5, 30, 120]
    assert pauses[3] == pytest.approx(222.5)  # half of the time that is left: a greylist of five minutes is over
    assert sum(pauses) == 600


def test_no_pause_outlasts_the_delivery():
    task = a_task(expires_at=after(7), retry_round=2)

    assert exhaust_round(task, reason="down", at=NOON, policy=POLICY).transition.due_at == task.expires_at


@pytest.mark.parametrize("outcome", [*DEFINITE, Unknown("no answer")], ids=outcome_name)
def test_a_throttled_attempt_marks_its_round(outcome):
    task = a_task(delivery_class=DeliveryClass.URGENT)

    assert resolved(task, outcome).next_task.throttled is isinstance(outcome, Throttled)
    assert resolved(task.model_copy(update={"throttled": True}), outcome).next_task.throttled


def test_a_deferral_beyond_the_expiry_ends_with_it():
    transition = defer(a_task(expires_at=after(20)), until=after(3600), reason="suspended", at=NOON).transition

    assert transition.due_at == after(20)


def test_a_deferral_does_not_count_as_a_round():
    transition = defer(a_task(attempt=2), until=after(30), reason="suspended", at=NOON).transition

    assert (transition.type, transition.due_at, transition.next_round, transition.attempt) == (
        EventType.POSTPONED,
        after(30),
        False,
        1,
    )


@pytest.mark.parametrize(("unknown_attempts", "event_type"), [(0, EventType.EXPIRED), (2, EventType.UNCONFIRMED)])
def test_an_expired_delivery_that_may_have_been_sent_is_unconfirmed(unknown_attempts, event_type):
    assert expire(a_task(unknown_attempts=unknown_attempts), at=NOON).transition.type is event_type


@pytest.mark.parametrize(
    ("outcome", "not_before"),
    [
        (Throttled("flooding", timedelta(hours=1), Scope.RECIPIENT), after(3600)),
        (Throttled("flooding", timedelta(days=1), Scope.RECIPIENT), after(3600)),
        (Throttled("pair", seconds(6), Scope.PAIR), after(6)),
        (Throttled("queue", seconds(30), Scope.SENDER), after(30)),
        (Throttled("greylisted", None, Scope.RECIPIENT), None),
        (Throttled("rate", seconds(30)), None),  # suspends the account, for every delivery
        (ProviderFault("503"), None),
    ],
)
def test_a_time_that_is_not_the_accounts_is_kept_for_the_delivery(outcome, not_before):
    resolution = resolved(a_task(), outcome)

    assert resolution.transition.not_before == not_before
    assert resolution.transition.due_at == after(8)  # another provider gets it at once


@pytest.mark.parametrize(
    ("requested", "applied"),
    [
        (None, None),
        (seconds(30), seconds(30)),
        (seconds(0), seconds(1)),
        (seconds(-5), seconds(1)),
        (timedelta(days=3), MAX_THROTTLE),
    ],
)
def test_the_pause_that_a_provider_requests_is_clamped(requested, applied):
    assert throttle_duration(Throttled("slow down", requested)) == applied


@pytest.mark.parametrize("text", ["x" * 100_000, "with \x00 in it", "two\nlines"])
@pytest.mark.parametrize("outcome", [partial(RecipientRejected, Reason.OTHER), ProviderFault, AuthFailed, Unknown])
def test_any_text_of_a_provider_can_be_stored_and_published(outcome, text):
    transition = resolved(a_task(), outcome(text)).transition

    assert len(transition.detail) < 2_000
    assert "\x00" not in transition.detail


def test_any_provider_message_id_can_be_stored():
    transition = resolved(a_task(), Accepted("their\x00" + "x" * 100_000)).transition

    assert len(transition.provider_message_id) < 2_000
    assert "\x00" not in transition.provider_message_id


# -- awaited deliveries --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("throttled", [True, False])
def test_a_delivery_for_which_a_caller_waits_has_one_round(throttled):
    task = a_task(awaited=True, attempted_providers=(an_id(),), all_declined=False, throttled=throttled)

    resolution = exhaust_round(task, reason="all providers failed", at=NOON, policy=POLICY)

    assert (resolution.transition.type, resolution.transition.due_at) == (EventType.FAILED, None)
    assert exhaust_round(
        task.model_copy(update={"awaited": False}), reason="", at=NOON, policy=POLICY
    ).transition.due_at


def test_a_caller_does_not_wait_for_a_provider_that_is_suspended_for_long():
    task = a_task(awaited=True)

    ended = next_round_before(after(60), task, reason="suspended", at=NOON, policy=POLICY)

    assert ended.transition.type is EventType.FAILED
    assert next_round_before(after(5), task, reason="suspended", at=NOON, policy=POLICY) is None


def test_the_next_attempt_is_awaited_too():
    assert resolved(a_task(awaited=True), ProviderFault("503")).next_task.awaited
