"""The SMS link over SMPP in one worker: a bind while the installation's limit allows one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from zoneinfo import ZoneInfo

import structlog

from sluice.bus.publisher import Publisher
from sluice.delivery.outbox import OutboxPublisher
from sluice.delivery.receipts import ReceiptSink
from sluice.delivery.session_receipts import SessionReceipts
from sluice.providers.adapters.messagepipe import SMPP_LINK
from sluice.providers.sms_link import SmsLinkSettings
from sluice.runtime.errors import SluiceError
from sluice.runtime.tasks import cancel_and_wait, supervised
from sluice.store.bind_slots import Slot, try_slot
from sluice.store.db import UNAVAILABLE_ERRORS, Pool
from sluice.transports.smpp.contract import SessionHandler, SmppConfig
from sluice.transports.smpp.encoding import Alphabet, LongMessageMode
from sluice.transports.smpp.pdu import PduError, encode_bind
from sluice.transports.smpp.receipt import MessageIdFormat
from sluice.transports.smpp.session import SmppSession
from sluice.transports.smpp.transport import SmppTransport, SubmitSettings

log = structlog.get_logger()

SLOT_RETRY = 1.0  # seconds between two tries for a slot
_DRAIN = 5.0  # seconds for open answers when the slot is lost: until the unbind there can be a bind too many
_AUTH_RETRY = 60.0  # seconds; a bind is refused too while the SMSC still counts one that has just ended
_MAX_STORES = 500  # receipts of one session that are stored at once; one that overtook its response waits for seconds


class SmppLink:
    """Keeps this worker's bind of the link.

    ``ready``: whether this worker submits itself. It does as long as it holds a slot, also while the SMSC is away:
    the calls then fail and move on to other providers. A worker without a slot passes its assignments on.
    """

    def __init__(self, settings: SmsLinkSettings, dsn: str) -> None:
        self._config = smpp_config(settings)
        self._slots = settings.sms_link_binds
        self._dsn = dsn
        # Two accounts at one SMSC, or one account at two, have limits of their own.
        self._name = f"sms link {self._config.host}:{self._config.port} {self._config.system_id}"
        self.transport = SmppTransport(submit_settings(settings))

    @property
    def ready(self) -> bool:
        """Whether a call of this worker would reach the session."""
        return self.transport.session is not None

    @asynccontextmanager
    async def running(self, handler: SessionHandler) -> AsyncIterator[SmppLink]:
        """Hold a bind, or try to get one, until the block ends; then unbind."""
        task = supervised(self._run(handler), name="sms-link")
        try:
            yield self
        finally:
            await cancel_and_wait(task)

    async def _run(self, handler: SessionHandler) -> None:
        while True:
            try:
                async with try_slot(self._dsn, name=self._name, slots=self._slots) as slot:
                    if slot is not None:
                        await self._hold(slot, handler)
                        log.warning("sms_link_slot_lost", slot=slot.number)
            except UNAVAILABLE_ERRORS as error:
                log.warning("sms_link_without_postgresql", error=type(error).__name__)
            await asyncio.sleep(SLOT_RETRY)

    async def _hold(self, slot: Slot, handler: SessionHandler) -> None:
        """Stay bound until the slot is lost."""
        async with SmppSession(self._config, handler) as session:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.bind_timeout):
                    await session.wait_bound()
            self.transport.session = session
            try:
                await slot.lost()
            finally:
                self.transport.session = None


def smpp_config(settings: SmsLinkSettings) -> SmppConfig:
    """The session's configuration.

    Raises:
        SluiceError: the password or the certificate authority cannot be read, or the account does not fit into a bind.
    """
    assert settings.sms_link_host is not None  # read_links checks both
    assert settings.sms_link_system_id is not None
    password = settings.smpp_password()
    try:
        encode_bind(
            system_id=settings.sms_link_system_id,
            password=password.get_secret_value(),
            system_type=settings.sms_link_system_type,
        )
    except PduError as error:
        raise SluiceError(f"the SMS link: {error}") from None
    return SmppConfig(
        host=settings.sms_link_host,
        port=settings.sms_link_port,
        system_id=settings.sms_link_system_id,
        password=password,
        system_type=settings.sms_link_system_type,
        interface_version=settings.sms_link_interface_version,
        tls=settings.tls_context(),
        service_type=settings.sms_link_service_type,
        default_alphabet=Alphabet(settings.sms_link_data_coding_default),
        long_message_mode=LongMessageMode(settings.sms_link_long_message_mode),
        status_overrides=settings.sms_link_status_overrides,
        window=settings.sms_link_window,
        bind_timeout=settings.sms_link_bind_timeout,
        enquire_link_interval=settings.sms_link_enquire_link_interval,
        reconnect_delay=settings.sms_link_reconnect_delay,
        max_concurrent_stores=_MAX_STORES,
        auth_retry_delay=_AUTH_RETRY,
        drain_timeout=_DRAIN,
    )


def submit_settings(settings: SmsLinkSettings) -> SubmitSettings:
    """How the link submits."""
    return SubmitSettings(
        source_ton=settings.sms_link_source_ton,
        source_npi=settings.sms_link_source_npi,
        dest_ton=settings.sms_link_dest_ton,
        dest_npi=settings.sms_link_dest_npi,
        receipts=settings.sms_link_registered_delivery,
        response_timeout=settings.sms_link_response_timeout,
        message_ids=MessageIdFormat(settings.sms_link_message_id_format),
    )


@asynccontextmanager
async def open_smpp_link(
    settings: SmsLinkSettings, dsn: str, pool: Pool, publisher: Publisher
) -> AsyncIterator[SmppLink]:
    """The link with its receipts, running until the block ends."""
    link = SmppLink(settings, dsn)
    outbox = OutboxPublisher(pool, publisher)
    sink = ReceiptSink(pool, outbox)
    receipts = SessionReceipts(
        pool,
        sink,
        link.transport,
        package=SMPP_LINK.name,
        form=MessageIdFormat(settings.sms_link_message_id_format),
        zone=ZoneInfo(settings.sms_link_timezone),
    )
    async with outbox.running(), sink.running(), receipts.running(), link.running(receipts):
        yield link
