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
