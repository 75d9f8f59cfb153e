"""The types of webhooks, the retry schedule, and the settings of the sender."""

from datetime import timedelta

import pytest

from event_worker.settings import EventWorkerSettings
from event_worker.webhooks.retry_schedule import next_pause
from sluice.model.message import Channel
from sluice.model.state import SETTLED, STATE_ASSERTED_BY, EventType
from sluice.model.webhooks import WebhookType, webhook_type
from sluice.runtime.errors import SluiceError
from sluice.runtime.settings import load

ADDRESSES = {"postgres_dsn": "postgresql://x", "kafka_bootstrap_servers": "x:1"}
SCHEDULE = load(EventWorkerSettings, **ADDRESSES).webhook_retry_schedule


@pytest.mark.parametrize("channel", Channel)
def test_every_settled_state_is_sent(channel):
    settling = [type_ for type_, state in STATE_ASSERTED_BY.items() if state in SETTLED]

    assert [type_ for type_ in settling if webhook_type(channel, type_) is None] == []


@pytest.mark.parametrize(
    ("channel", "event_type", "expected"),
    [
        ("email", "delivered", "delivered"),
        ("email", "read", "opened"),
        ("email", "soft_bounce", "soft_bounce"),
        ("sms", "sent", "sms_sent"),
        ("sms", "bounced", "sms_failed"),
        ("sms", "read", None),
        ("whatsapp", "read", "wa_read"),
        ("whatsapp", "failed", "wa_failed"),
        ("telegram", "sent", "tg_sent"),
        ("signal", "delivered", "sig_delivered"),
        ("push", "sent", "push_sent"),
        ("push", "cancelled", "cancelled"),
        ("email", "accepted", None),
        ("email", "attempt_failed", None),
    ],
)
def test_the_type_of_an_event(channel, event_type, expected):
    assert webhook_type(Channel(channel), EventType(event_type)) == expected


def test_every_type_but_replies_and_the_health_of_providers_comes_from_an_event():
    made = {webhook_type(channel, type_) for channel in Channel for type_ in EventType}

    assert set(WebhookType) - made == {WebhookType.WA_REPLIED, WebhookType.PROVIDER_HEALTH_CHANGED}


def test_the_retries_last_75_hours():
    pauses = [next_pause(SCHEDULE, step, asked=None) for step in range(len(SCHEDULE))]

    assert timedelta(hours=75) <= sum(pauses, timedelta()) <= timedelta(hours=75.6 * 1.1)
    assert next_pause(SCHEDULE, len(SCHEDULE), asked=timedelta(seconds=1)) is None


def test_pauses_differ():
    assert len({next_pause(SCHEDULE, 3, asked=None) for _ in range(20)}) > 10


def test_a_pause_that_the_endpoint_asks_for_only_prolongs():
    assert next_pause((5.0,), 0, asked=timedelta(minutes=10)) == timedelta(minutes=10)
    assert next_pause((500.0,), 0, asked=timedelta(minutes=1)) >= timedelta(seconds=500)


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook_lease": 10.0},
        {"webhook_timeout": 60.0, "webhook_lease": 60.0},
        {"webhook_retry_schedule": (-1.0,)},
        {"webhook_retry_schedule": (1.0,) * 101},
        {"webhook_concurrency": 0},
        {"mail_sender": "no address"},
    ],
)
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(SluiceError):
        load(EventWorkerSettings, **ADDRESSES, **changes)
