"""Every topic name. Partitions and retention are in deploy/topics.yml; a test compares the two."""

from __future__ import annotations

from enum import StrEnum

from sluice.model.message import Channel


class Topic(StrEnum):
    """A topic of Sluice."""

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
    """The topic that feeds a channel's workers."""
    return Topic(f"deliveries.{channel.value}")


class Group(StrEnum):
    """Consumer groups; one for each job, shared by the replicas of a role."""

    INGEST = "gateway-ingest"
    ROUTER = "router"
    EMAIL_WORKER = "email-worker"
    SMS_WORKER = "sms-worker"
    PUSH_WORKER = "push-worker"
    HEALTH = "health"
