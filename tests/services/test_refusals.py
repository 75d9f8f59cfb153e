"""Every refusal that is not about the recipient goes to the next provider, and moves the account's health by its scope.

The functions of the worker, the router and the health service, one after the other, for each row of the sheets.
"""

from datetime import timedelta

import httpx
import pytest

from sluice.bus.messages import AttemptReport, RetryHandle
from sluice.delivery.retry_policy import resolve
from sluice.health.breaker import HealthThresholds
from sluice.health.monitor import HealthMonitor
from sluice.model.outcome import AuthFailed, Declined, ProviderFault, RecipientRejected, Scope, Throttled, outcome_name
from sluice.model.state import EventType
from sluice.providers.adapters.resend import RESEND
from sluice.providers.adapters.smtp import SMTP
from sluice.providers.adapters.twilio_sms import TWILIO
from sluice.providers.contract import AnyPackage
from sluice.providers.kit.smtp_types import SmtpReply
from sluice.routing.selection import Selected, select_provider
from tests.examples import NOON, PROJECT, a_candidate, a_policy, a_task, after
from tests.unit.providers import test_resend, test_smtp, test_twilio_sms

FIRST, SECOND = a_candidate(1), a_candidate(2)
RESPONSES: list[tuple[AnyPackage, object]] = [
    *((SMTP, SmtpReply(phase, code, text)) for phase, code, text, _ in test_smtp.ROWS),
    *(
        (RESEND, httpx.Response(status, json={"statusCode": status, "name": name, "message": "words"}))
        for status, name, _ in test_resend.ROWS
        if name
    ),
    *((TWILIO, httpx.Response(400, json={"code": code, "message": "words"})) for code, _ in test_twilio_sms.CODES),
]
REFUSALS = [
    (f"{package.name}: {outcome.detail}", outcome)
    for package, response in RESPONSES
    if isinstance(outcome := package.classify(response), Declined | Throttled | AuthFailed | ProviderFault)
]


def test_there_are_at_least_sixty_of_them():
    assert len({name for name, _ in REFUSALS}) >= 60


@pytest.mark.parametrize("outcome", [outcome for _, outcome in REFUSALS], ids=[name for name, _ in REFUSALS])
def test_f2_f3_f5_the_next_provider_gets_the_message(outcome):
    task = a_task()
    handle = RetryHandle(provider_id=FIRST.id, reference="att_1")

    refused = resolve(task, handle, outcome, idempotent=False, at=NOON, policy=a_policy())
    selection = select_provider(refused.next_task, [FIRST, SECOND], {}, NOON, lambda *_: False)

    assert refused.transition.type is EventType.ATTEMPT_FAILED
    assert isinstance(selection, Selected)
    assert selection.provider == SECOND
    assert refused.next_task.errors == {FIRST.id: outcome.detail[:200]}


@pytest.mark.parametrize("outcome", [outcome for _, outcome in REFUSALS], ids=[name for name, _ in REFUSALS])
def test_only_what_concerns_the_account_moves_its_health_within_twenty_messages(outcome):
    monitor = HealthMonitor(HealthThresholds())
    for number in range(20):
        monitor.record_attempts([report(outcome, after(number))], after(number))
    (health,) = monitor.statuses(after(20))

    moved = health.status != "healthy" or health.suspended_until is not None
    concerns_account = not isinstance(outcome, Declined | Throttled) or outcome.scope is Scope.ACCOUNT
    assert moved == concerns_account


def report(outcome, at):
    scope = outcome.scope if isinstance(outcome, Declined | Throttled) else None
    return AttemptReport(
        project_id=PROJECT,
        channel="email",
        occurred_at=at,
        provider_id=FIRST.id,
        outcome=outcome_name(outcome),
        scope=scope,
        retry_after_s=timedelta(seconds=30).total_seconds() if isinstance(outcome, Throttled) else None,
    )


def test_a_recipient_that_is_rejected_is_final():
    handle = RetryHandle(provider_id=FIRST.id, reference="att_1")

    rejected = resolve(a_task(), handle, RecipientRejected(), idempotent=False, at=NOON, policy=a_policy())

    assert (rejected.transition.type, rejected.next_task) == (EventType.FAILED, None)
