"""The names of all topics and consumer groups. Partitions and retention are in deploy/topics.yml."""

from __future__ import annotations

from enum import StrEnum

from sluice.model.message import Channel


class Topic(StrEnum):
    """A Kafka topic."""

    SEND_REQUESTS = "send.requests"
    ACCEPTED = "deliveries.accepted"
    REROUTE = "deliveries.reroute"
    EMAIL = "deliveries.email"
    SMS = "deliveries.sms"
    WHATSAPP = "deliveries.whatsapp"
    TELEGRAM = "deliveries.telegram"
    SIGNAL = "deliveries.signal"
    PUSH = "deliveries.push"
    EVENTS = "delivery.events"
    HEALTH = "provider.health"
    DEAD_LETTERS = "dead.letters"


def delivery_topic(channel: Channel) -> Topic:
    """The topic of a channel's assignments, which its workers consume."""
    return Topic(f"deliveries.{channel.value}")


class Group(StrEnum):
    """Consumer groups: one for what each role consumes, shared by its replicas."""

    INGEST = "gateway-ingest"
    ROUTER = "router"
    EMAIL_WORKER = "email-worker"
    SMS_WORKER = "sms-worker"
    PUSH_WORKER = "push-worker"
    HEALTH = "health"
    EVENT_WORKER = "event-worker"
    DEAD_LETTERS = "event-worker.dead-letters"
    INCIDENTS = "event-worker.incidents"


SUBSCRIPTIONS: dict[Group, tuple[Topic, ...]] = {
    Group.INGEST: (Topic.SEND_REQUESTS,),
    Group.ROUTER: (Topic.ACCEPTED, Topic.REROUTE),
    Group.EMAIL_WORKER: (Topic.EMAIL,),
    Group.SMS_WORKER: (Topic.SMS, Topic.WHATSAPP, Topic.TELEGRAM, Topic.SIGNAL),
    Group.PUSH_WORKER: (Topic.PUSH,),
    Group.HEALTH: (Topic.EVENTS,),
    Group.EVENT_WORKER: (Topic.EVENTS,),
    Group.DEAD_LETTERS: (Topic.DEAD_LETTERS,),
    Group.INCIDENTS: (Topic.HEALTH,),
}
"""The topics that each group consumes."""

FROM_LATEST = frozenset({Group.HEALTH})
"""Groups that begin with the records that arrive after their start; the others begin with the oldest."""
