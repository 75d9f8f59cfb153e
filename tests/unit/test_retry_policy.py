"""What follows from an outcome: every outcome, class and kind of provider."""

from datetime import timedelta

import pytest

from sluice.delivery.retry_policy import (
    MAX_THROTTLE,
    defer,
    exhaust_round,
    expire,
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
TIMING = a_policy(requeue_after=8, unknown_outcome_wait=60, same_key_retry_delay=2, retry_schedule=(5.0, 30.0))


def concluded(task, outcome, *, idempotent=False, retry_handle=None):
    return resolve(task, retry_handle or a_retry_handle(), outcome, idempotent=idempotent, at=NOON, policy=TIMING)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=outcome_name)
@pytest.mark.parametrize("delivery_class", DeliveryClass)
@pytest.mark.parametrize("idempotent", [True, False])
def test_every_attempt_either_ends_its_delivery_or_leaves_it_due(outcome, delivery_class, idempotent):
    step = concluded(a_task(delivery_class=delivery_class), outcome, idempotent=idempotent).transition

    ends = STATE_ASSERTED_BY[step.type] in SETTLED
    assert ends == (step.due_at is None)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=outcome_name)
@pytest.mark.parametrize("delivery_class", DeliveryClass)
@pytest.mark.parametrize("idempotent", [True, False])
def test_every_step_is_a_compare_and_set_on_the_attempt_in_flight(outcome, delivery_class, idempotent):
    task, repeat = a_task(delivery_class=delivery_class, attempt=3), a_retry_handle()

    step = concluded(task, outcome, idempotent=idempotent, retry_handle=repeat).transition

    assert (step.delivery_id, step.attempt, step.in_flight) == (task.delivery_id, 3, True)
    assert (step.provider_id, step.outcome) == (repeat.provider_id, outcome_name(outcome))


@pytest.mark.parametrize("outcome", OUTCOMES, ids=outcome_name)
@pytest.mark.parametrize("delivery_class", DeliveryClass)
@pytest.mark.parametrize("idempotent", [True, False])
def test_only_an_unknown_outcome_is_counted_as_ambiguous(outcome, delivery_class, idempotent):
    resolution = concluded(a_task(delivery_class=delivery_class, unknown_attempts=1), outcome, idempotent=idempotent)

    unknown = isinstance(outcome, Unknown)
    assert resolution.transition.unknown == unknown
    assert resolution.next_task is None or resolution.next_task.unknown_attempts == 1 + unknown


def test_an_accepted_message_is_sent_under_the_providers_own_id():
    step = concluded(a_task(), Accepted("their-1")).transition

    assert (step.type, step.provider_message_id) == (EventType.SENT, "their-1")


def test_the_ids_of_later_receipts_are_kept_with_the_attempt():
    step = concluded(a_task(), Accepted("part-1", ("part-1", "part-2"))).transition

    assert step.receipt_ids == ("part-1", "part-2")


@pytest.mark.parametrize("outcome", [RecipientRejected(Reason.FULL, "x"), Declined(Reason.FULL, "x")], ids=outcome_name)
def test_a_refusal_keeps_its_reason(outcome):
    assert concluded(a_task(), outcome).transition.reason is Reason.FULL


def test_a_rejected_message_fails_at_once():
    resolution = concluded(a_task(), RecipientRejected(Reason.UNKNOWN_RECIPIENT, "no such mailbox"))

    assert (resolution.transition.type, resolution.transition.detail, resolution.next_task) == (
        EventType.FAILED,
        "no such mailbox",
        None,
    )


@pytest.mark.parametrize("outcome", DEFINITE, ids=outcome_name)
@pytest.mark.parametrize("delivery_class", DeliveryClass)
def test_a_definite_failure_goes_to_another_provider_at_once(outcome, delivery_class):
    repeat = a_retry_handle()

    resolution = concluded(a_task(delivery_class=delivery_class, attempt=2), outcome, retry_handle=repeat)

    assert (resolution.next_task.attempt, resolution.next_task.attempted_providers) == (3, (repeat.provider_id,))
    assert (resolution.transition.due_at, resolution.transition.enqueued_at) == (after(8), NOON)


def test_what_was_tried_in_the_round_is_remembered():
    earlier, repeat = an_id(), a_retry_handle()

    resolution = concluded(a_task(attempted_providers=(earlier,)), ProviderFault("503"), retry_handle=repeat)

    assert resolution.next_task.attempted_providers == (earlier, repeat.provider_id)


@pytest.mark.parametrize("idempotent", [True, False])
def test_class_once_is_never_repeated(idempotent):
    resolution = concluded(a_task(delivery_class=DeliveryClass.ONCE), Unknown("no answer"), idempotent=idempotent)

    assert (resolution.transition.type, resolution.next_task) == (EventType.UNCONFIRMED, None)


@pytest.mark.parametrize("idempotent", [True, False])
def test_class_urgent_is_repeated_at_once(idempotent):
    resolution = concluded(a_task(delivery_class=DeliveryClass.URGENT), Unknown("no answer"), idempotent=idempotent)

    assert resolution.next_task is not None
    assert resolution.transition.enqueued_at == NOON


def test_class_urgent_carries_the_old_reference_only_for_an_idempotent_provider():
    repeat = a_retry_handle()

    tasks = [
        concluded(
            a_task(delivery_class=DeliveryClass.URGENT), Unknown("?"), idempotent=idempotent, retry_handle=repeat
        ).next_task
        for idempotent in (True, False)
    ]

    assert [task.retry_handle for task in tasks] == [repeat, None]


def test_class_standard_waits_for_a_receipt():
    resolution = concluded(a_task(), Unknown("no answer"))

    assert (resolution.transition.due_at, resolution.transition.enqueued_at, resolution.next_task) == (
        after(60),
        None,
        None,
    )


def test_class_standard_repeats_soon_where_a_repeat_cannot_double():
    resolution = concluded(a_task(), Unknown("no answer"), idempotent=True)

    assert (resolution.transition.due_at, resolution.next_task) == (after(2), None)


def test_repeats_under_one_key_have_an_end():
    resolution = concluded(a_task(unknown_attempts=MAX_SAME_KEY_RETRIES), Unknown("no answer"), idempotent=True)

    assert resolution.transition.due_at == after(60)


@pytest.mark.parametrize("delivery_class", DeliveryClass)
def test_an_unknown_outcome_says_that_a_duplicate_is_possible(delivery_class):
    step = concluded(a_task(delivery_class=delivery_class), Unknown("no answer")).transition

    assert step.detail == "no answer; the message may have been sent: a duplicate is possible"


def test_another_round_follows_while_there_is_one():
    step = exhaust_round(a_task(retry_round=2, attempt=5), reason="all down", at=NOON, policy=TIMING).transition

    assert (step.type, step.due_at, step.next_round) == (EventType.POSTPONED, after(30), True)
    assert (step.attempt, step.in_flight) == (4, False)


@pytest.mark.parametrize(("ambiguous", "kind"), [(0, EventType.FAILED), (1, EventType.UNCONFIRMED)])
def test_after_the_last_round_it_is_over(ambiguous, kind):
    step = exhaust_round(
        a_task(retry_round=3, unknown_attempts=ambiguous), reason="all down", at=NOON, policy=TIMING
    ).transition

    assert (step.type, step.due_at, step.next_round) == (kind, None, False)


def test_without_retry_rounds_the_first_round_is_the_last():
    step = exhaust_round(a_task(), reason="all down", at=NOON, policy=a_policy(retry_schedule=())).transition

    assert step.type is EventType.FAILED


def test_a_wait_costs_no_round():
    step = defer(a_task(attempt=2), until=after(30), reason="held", at=NOON).transition

    assert (step.type, step.due_at, step.next_round, step.attempt) == (EventType.POSTPONED, after(30), False, 1)


@pytest.mark.parametrize(("ambiguous", "kind"), [(0, EventType.EXPIRED), (2, EventType.UNCONFIRMED)])
def test_an_expired_delivery_says_honestly_whether_it_may_have_been_sent(ambiguous, kind):
    assert expire(a_task(unknown_attempts=ambiguous), at=NOON).transition.type is kind


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (None, None),
        (seconds(30), seconds(30)),
        (seconds(0), seconds(1)),
        (seconds(-5), seconds(1)),
        (timedelta(days=3), MAX_THROTTLE),
    ],
)
def test_a_providers_wish_is_kept_within_reason(asked, kept):
    assert throttle_duration(Throttled("slow down", asked)) == kept


@pytest.mark.parametrize("text", ["x" * 100_000, "with \x00 in it", "two\nlines"])
@pytest.mark.parametrize("outcome", [RecipientRejected, ProviderFault, AuthFailed, Unknown])
def test_whatever_a_provider_says_fits_into_the_record_and_an_event(outcome, text):
    step = concluded(a_task(), outcome(text)).transition

    assert len(step.detail) < 2_000
    assert "\x00" not in step.detail


def test_a_providers_id_fits_into_the_record():
    step = concluded(a_task(), Accepted("their\x00" + "x" * 100_000)).transition

    assert len(step.provider_message_id) < 2_000
    assert "\x00" not in step.provider_message_id
