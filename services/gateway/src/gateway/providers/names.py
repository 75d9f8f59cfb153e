"""Packages by the names of the project API: MessagePipe's, ours where it has none, else the name of the package.

The fields of their credentials need no table: a package has them in the spelling of MessagePipe's ``config``.
"""

from __future__ import annotations

from collections.abc import Mapping

from sluice.model.channel_group import ChannelGroup
from sluice.providers.contract import AnyPackage
from sluice.providers.registry import installed

PACKAGES: Mapping[str, str] = {
    "sendgrid": "provider-sendgrid",
    "mailgun": "provider-mailgun",
    "ses": "provider-ses",
    "smtp": "provider-smtp",
    "resend": "provider-resend",
    "messagepipe": "provider-messagepipe",
    "twilio": "provider-twilio",
    "termii": "provider-termii",
    "sns": "provider-sns",
    "infobip": "provider-infobip",
    "africastalking": "provider-africastalking",
    "whatsapp": "provider-meta-cloud",
    "whatsapp_twilio": "provider-twilio-whatsapp",
    "360dialog": "provider-360dialog",
    "telegram": "provider-telegram",
    "signal": "provider-signal",
    "fcm": "provider-fcm",
}
"""The name of the package behind each name that is not that of a package."""

_NAMES = {package: name for name, package in PACKAGES.items()}


def name_of(package: str) -> str:
    """The name of a package in the project API, installed or not."""
    return _NAMES.get(package, package)


def packages_of(group: ChannelGroup) -> dict[str, AnyPackage]:
    """The installed packages with a channel of the group, by their names in the project API."""
    channels = set(group.channels)
    found = {name_of(name): package for name, package in installed().items() if channels.intersection(package.channels)}
    order = list(PACKAGES)
    return dict(sorted(found.items(), key=lambda pair: order.index(pair[0]) if pair[0] in PACKAGES else len(order)))
