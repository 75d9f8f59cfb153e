"""Every provider package: the explicit list of ours, and those that other distributions add."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

import structlog

from sluice.providers.adapters.africastalking import AFRICASTALKING
from sluice.providers.adapters.dialog360 import DIALOG_360
from sluice.providers.adapters.fcm import FCM
from sluice.providers.adapters.infobip import INFOBIP
from sluice.providers.adapters.mailgun import MAILGUN
from sluice.providers.adapters.messagepipe import MESSAGEPIPE
from sluice.providers.adapters.meta_cloud import META_CLOUD
from sluice.providers.adapters.resend import RESEND
from sluice.providers.adapters.sandbox import SANDBOX
from sluice.providers.adapters.sendgrid import SENDGRID
from sluice.providers.adapters.ses import SES
from sluice.providers.adapters.signal import SIGNAL
from sluice.providers.adapters.smtp import SMTP
from sluice.providers.adapters.sns import SNS
from sluice.providers.adapters.telegram import TELEGRAM
from sluice.providers.adapters.termii import TERMII
from sluice.providers.adapters.twilio_sms import TWILIO
from sluice.providers.adapters.twilio_whatsapp import TWILIO_WHATSAPP
from sluice.providers.contract import AnyPackage, Package

ENTRY_POINTS = "sluice.providers"  # the group in which a third party's distribution names its Package object

PACKAGES: Mapping[str, AnyPackage] = {
    package.name: package
    for package in (
        SMTP,
        RESEND,
        SENDGRID,
        MAILGUN,
        SES,
        TWILIO,
        TERMII,
        AFRICASTALKING,
        INFOBIP,
        SNS,
        META_CLOUD,
        DIALOG_360,
        TWILIO_WHATSAPP,
        TELEGRAM,
        SIGNAL,
        FCM,
        MESSAGEPIPE,
        SANDBOX,
    )
}


class UnknownPackageError(LookupError):
    """No package of that name is installed."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"no provider package {name!r}; installed: {', '.join(sorted(known))}")
        self.name = name


@lru_cache(maxsize=1)
def installed() -> Mapping[str, AnyPackage]:
    """Our packages and third parties', by name; read from the entry points once per process."""
    return {**load_entry_points(), **PACKAGES}


def load_entry_points() -> dict[str, AnyPackage]:
    """The packages of the entry points. One that cannot be loaded is logged and skipped."""
    found: dict[str, AnyPackage] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            package = entry.load()
        except Exception as error:  # third-party code at import can raise anything
            _log().error("package_not_loaded", entry_point=entry.name, error=type(error).__name__)
            continue
        if not isinstance(package, Package) or package.name in PACKAGES:
            # Not a package, or one with the name of ours.
            _log().error("package_refused", entry_point=entry.name)
            continue
        found[package.name] = package
    return found


def get_package(name: str) -> AnyPackage:
    """The package, or UnknownPackageError naming those that exist."""
    packages = installed()
    if name not in packages:
        raise UnknownPackageError(name, packages)
    return packages[name]


def credential_schema(package: AnyPackage) -> dict[str, Any]:
    """The JSON schema of its credentials, in the caller's spelling; secrets are write-only passwords."""
    schema: dict[str, Any] = package.credentials.model_json_schema(by_alias=True)
    return schema


def _log() -> Any:
    return structlog.get_logger("sluice.providers")
