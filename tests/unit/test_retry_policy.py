"""What follows from an outcome: every outcome, class and kind of provider."""

from datetime import timedelta

import pytest

from sluice.delivery.retry_policy import (
    LONGEST_HOLD,
    conclude,
    expire,
    give_up,
    held_for,
    outcome_name,
    wait,
)
from sluice.model.message import Class
from sluice.model.outcome import Accepted, AuthFailed, ProviderFault, Rejected, Throttled, Unknown
from sluice.model.state import ASSERTS, QUIET, EventKind
from sluice.routing.selection import MOST_REPEATS
from tests.examples import NOON, a_drive, a_repeat, after, an_id, seconds, timing

OUTCOMES = [
    Accepted("their-1"),
    Rejected("no such mailbox"),
    Throttled("slow down", seconds(30)),
    AuthFailed("bad key"),
    ProviderFault("503"),
    Unknown("no answer"),
]
DEFINITE = [Throttled("slow down"), AuthFailed("bad key"), ProviderFault("503")]
TIMING = timing(redrive=8, receipt_wait=60, repeat_after=2, retry_rounds=(5.0, 30.0))


def concluded(drive, outcome, *, idempotent=False, repeat=None):
    return conclude(drive, repeat or a_repeat(), outcome, idempotent=idempotent, at=NOON, timing=TIMING)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=outcome_name)
@pytest.mark.parametrize("class_", Class)
@pytest.mark.parametrize("idempotent", [True, False])
def test_every_attempt_either_ends_its_delivery_or_leaves_it_due(outcome, class_, idempotent):
    step = concluded(a_drive(class_=class_), outcome, idempotent=idempotent).step

    ends = ASSERTS[step.kind] in QUIET
    assert ends == (step.due_at is None)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=outcome_name)
@pytest.mark.parametrize("class_", Class)
@pytest.mark.parametrize("idempotent", [True, False])
def test_every_step_is_a_compare_and_set_on_the_attempt_in_flight(outcome, class_, idempotent):
    drive, repeat = a_drive(class_=class_, attempt=3), a_repeat()

    step = concluded(drive, outcome, idempotent=idempotent, repeat=repeat).step

    assert (step.delivery_id, step.attempt, step.in_flight) == (drive.delivery_id, 3, True)
    assert (step.provider_id, step.outcome) == (repeat.provider_id, outcome_name(outcome))


@pytest.mark.parametrize("outcome", OUTCOMES, ids=outcome_name)
@pytest.mark.parametrize("class_", Class)
@pytest.mark.parametrize("idempotent", [True, False])
def test_only_an_unknown_outcome_is_counted_as_ambiguous(outcome, class_, idempotent):
    conclusion = concluded(a_drive(class_=class_, ambiguous=1), outcome, idempotent=idempotent)

    unknown = isinstance(outcome, Unknown)
    assert conclusion.step.ambiguous == unknown
    assert conclusion.next is None or conclusion.next.ambiguous == 1 + unknown


def test_an_accepted_message_is_sent_under_the_providers_own_id():
    step = concluded(a_drive(), Accepted("their-1")).step

    assert (step.kind, step.provider_ref) == (EventKind.SENT, "their-1")


def test_a_rejected_message_fails_at_once():
    conclusion = concluded(a_drive(), Rejected("no such mailbox"))

    assert (conclusion.step.kind, conclusion.step.detail, conclusion.next) == (
        EventKind.FAILED,
        "no such mailbox",
        None,
    )


@pytest.mark.parametrize("outcome", DEFINITE, ids=outcome_name)
@pytest.mark.parametrize("class_", Class)
def test_a_definite_failure_goes_to_another_provider_at_once(outcome, class_):
    repeat = a_repeat()

    conclusion = concluded(a_drive(class_=class_, attempt=2), outcome, repeat=repeat)

    assert (conclusion.next.attempt, conclusion.next.tried) == (3, (repeat.provider_id,))
    assert (conclusion.step.due_at, conclusion.step.published_at) == (after(8), NOON)


def test_what_was_tried_in_the_round_is_remembered():
    earlier, repeat = an_id(), a_repeat()

    conclusion = concluded(a_drive(tried=(earlier,)), ProviderFault("503"), repeat=repeat)

    assert conclusion.next.tried == (earlier, repeat.provider_id)


@pytest.mark.parametrize("idempotent", [True, False])
def test_class_once_is_never_repeated(idempotent):
    conclusion = concluded(a_drive(class_=Class.ONCE), Unknown("no answer"), idempotent=idempotent)

    assert (conclusion.step.kind, conclusion.next) == (EventKind.UNCONFIRMED, None)


@pytest.mark.parametrize("idempotent", [True, False])
def test_class_urgent_is_repeated_at_once(idempotent):
    conclusion = concluded(a_drive(class_=Class.URGENT), Unknown("no answer"), idempotent=idempotent)

    assert conclusion.next is not None
    assert conclusion.step.published_at == NOON


def test_class_urgent_carries_the_old_reference_only_for_an_idempotent_provider():
    repeat = a_repeat()

    drives = [
        concluded(a_drive(class_=Class.URGENT), Unknown("?"), idempotent=idempotent, repeat=repeat).next
        for idempotent in (True, False)
    ]

    assert [drive.repeat for drive in drives] == [repeat, None]


def test_class_standard_waits_for_a_receipt():
    conclusion = concluded(a_drive(), Unknown("no answer"))

    assert (conclusion.step.due_at, conclusion.step.published_at, conclusion.next) == (after(60), None, None)


def test_class_standard_repeats_soon_where_a_repeat_cannot_double():
    conclusion = concluded(a_drive(), Unknown("no answer"), idempotent=True)

    assert (conclusion.step.due_at, conclusion.next) == (after(2), None)


def test_repeats_under_one_key_have_an_end():
    conclusion = concluded(a_drive(ambiguous=MOST_REPEATS), Unknown("no answer"), idempotent=True)

    assert conclusion.step.due_at == after(60)


@pytest.mark.parametrize("class_", Class)
def test_an_unknown_outcome_says_that_a_duplicate_is_possible(class_):
    step = concluded(a_drive(class_=class_), Unknown("no answer")).step

    assert step.detail == "no answer; the message may have been sent: a duplicate is possible"


def test_another_round_follows_while_there_is_one():
    step = give_up(a_drive(round=2, attempt=5), reason="all down", at=NOON, timing=TIMING).step

    assert (step.kind, step.due_at, step.next_round) == (EventKind.POSTPONED, after(30), True)
    assert (step.attempt, step.in_flight) == (4, False)


@pytest.mark.parametrize(("ambiguous", "kind"), [(0, EventKind.FAILED), (1, EventKind.UNCONFIRMED)])
def test_after_the_last_round_it_is_over(ambiguous, kind):
    step = give_up(a_drive(round=3, ambiguous=ambiguous), reason="all down", at=NOON, timing=TIMING).step

    assert (step.kind, step.due_at, step.next_round) == (kind, None, False)


def test_without_retry_rounds_the_first_round_is_the_last():
    step = give_up(a_drive(), reason="all down", at=NOON, timing=timing(retry_rounds=())).step

    assert step.kind is EventKind.FAILED


def test_a_wait_costs_no_round():
    step = wait(a_drive(attempt=2), until=after(30), reason="held", at=NOON).step

    assert (step.kind, step.due_at, step.next_round, step.attempt) == (EventKind.POSTPONED, after(30), False, 1)


@pytest.mark.parametrize(("ambiguous", "kind"), [(0, EventKind.EXPIRED), (2, EventKind.UNCONFIRMED)])
def test_an_expired_delivery_says_honestly_whether_it_may_have_been_sent(ambiguous, kind):
    assert expire(a_drive(ambiguous=ambiguous), at=NOON).step.kind is kind


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (None, None),
        (seconds(30), seconds(30)),
        (seconds(0), seconds(1)),
        (seconds(-5), seconds(1)),
        (timedelta(days=3), LONGEST_HOLD),
    ],
)
def test_a_providers_wish_is_kept_within_reason(asked, kept):
    assert held_for(Throttled("slow down", asked)) == kept


@pytest.mark.parametrize("text", ["x" * 100_000, "with \x00 in it", "two\nlines"])
@pytest.mark.parametrize("outcome", [Rejected, ProviderFault, AuthFailed, Unknown])
def test_whatever_a_provider_says_fits_into_the_record_and_an_event(outcome, text):
    step = concluded(a_drive(), outcome(text)).step

    assert len(step.detail) < 2_000
    assert "\x00" not in step.detail


def test_a_providers_id_fits_into_the_record():
    step = concluded(a_drive(), Accepted("their\x00" + "x" * 100_000)).step

    assert len(step.provider_ref) < 2_000
    assert "\x00" not in step.provider_ref
