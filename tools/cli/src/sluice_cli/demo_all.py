"""demo --all: one message through every provider package, on the running installation and the simulator."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sluice_cli.simulated_projects import ProviderPlan, create_project, credential_cipher, require_simulator
from sluice_cli.terminal import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_simulator import Simulator
    from sluice_simulator.accounts import Account

_SECONDS = 30.0  # from the request to the last receipt
_POLL_INTERVAL = 0.2  # seconds
_BROKEN, _WORKING = "broken", "working"
_LINK = "provider-messagepipe"
_NOT_SENT = "not sent: an SMS link would carry it; SLUICE_SMS_LINK_KIND=none confirms that there is none"
_CAPTURED_AS = "captured: the installation has no SMS link"


@dataclass(frozen=True, slots=True)
class Row:
    """What became of the message of one package. ``arrived`` is None for a package without a message."""

    package: str
    channel: str
    arrived: bool | None
    path: str
    receipts: tuple[str, ...] = ()
    state: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Sent:
    """A message on its way."""

    account: Account
    key: str
    message_id: str


def run_demo_all(*, as_json: bool) -> int:
    """Send one message through every package and print a table; 1 when one did not arrive.

    Raises:
        SluiceError: the simulator is not installed, or no installation runs here.
    """
    require_simulator("sluice demo --all")
    rows = asyncio.run(_run())
    print(json.dumps([asdict(row) for row in rows], indent=2) if as_json else format_table(rows))
    return 0 if all(row.arrived is not False for row in rows) else 1


async def _run() -> list[Row]:
    from sluice_cli.context import api_url, environment
    from sluice_simulator import Simulator
    from sluice_simulator.accounts import every_account

    url = api_url()
    accounts = every_account()
    # The workers know the SMS link; this process does not. Without a confirmation the text could reach an operator.
    linked = environment().get("SLUICE_SMS_LINK_KIND") != "none"
    used = [account for account in accounts.values() if not (linked and account.package == _LINK)]
    async with Simulator(endpoints=_endpoints(used)) as simulator:
        sent = await _send_all(simulator, used, accounts["provider-twilio"], url)
        rows = list(await asyncio.gather(*map(_outcome, sent)))
    if linked:
        rows.append(
            Row(
                _LINK,
                "sms",
                None,
                _NOT_SENT,
            )
        )
    return rows


def _endpoints(accounts: Sequence[Account]) -> dict[str, str]:
    """A broken endpoint and a working one for each account that has an address."""
    return {
        f"{account.dialect}-{place}": account.dialect
        for account in accounts
        if account.package != _LINK
        for place in (_BROKEN, _WORKING)
    }


async def _send_all(simulator: Simulator, accounts: Sequence[Account], sibling: Account, url: str) -> list[_Sent]:
    """Each account has a project of its own: the others of its channel take no part in its failover."""
    from sluice.model import ids
    from sluice_cli.context import database
    from sluice_simulator import Behaviour, EndpointScenario, Scenario
    from sluice_simulator.accounts import receipt_plan

    cipher = credential_cipher()
    endpoints: dict[str, EndpointScenario] = {}
    keys: list[tuple[Account, str]] = []
    async with database() as connection, connection.transaction():
        for account in accounts:
            broken = sibling if account.package == _LINK else account
            made = await create_project(
                connection, cipher, slug="demo-all", name=account.package, providers=_plans(simulator, account, broken)
            )
            working = made.providers[-1]
            receipts_at = f"{url}/v1/receipts/{ids.encode_id('prv', working)}"
            endpoints[f"{account.dialect}-{_BROKEN}"] = EndpointScenario(behaviour=Behaviour.AUTH)
            endpoints[f"{account.dialect}-{_WORKING}"] = EndpointScenario(
                receipts=receipt_plan(), webhooks=account.webhooks(receipts_at)
            )
            keys.append((account, made.key))
    simulator.apply_scenario(Scenario(endpoints=endpoints))
    return list(await asyncio.gather(*(_send(account, key) for account, key in keys)))


def _plans(simulator: Simulator, account: Account, broken: Account) -> list[ProviderPlan]:
    """A broken account before the working one."""
    return [
        ProviderPlan(used.package, used.channel, place, _credentials(simulator, used, place))
        for used, place in ((broken, _BROKEN), (account, _WORKING))
    ]


def _credentials(simulator: Simulator, account: Account, place: str) -> dict[str, Any]:
    if account.package == _LINK:
        return dict(account.credentials)
    return account.credentials_at(*simulator.address(f"{account.dialect}-{place}"))


async def _send(account: Account, key: str) -> _Sent:
    from sluice_cli.send import api_request

    body = json.dumps(dict(account.request)).encode()
    accepted = await asyncio.to_thread(api_request, "POST", "/v1/messages/channel", key, body)
    return _Sent(account, key, accepted["id"])


async def _outcome(sent: _Sent) -> Row:
    """The message once it is in the state that its account leads to, or as it is after 30 s."""
    from sluice.model.state import SETTLED
    from sluice_cli.send import api_request

    wanted = "SENT" if sent.account.package == _LINK else sent.account.ends
    deadline = time.monotonic() + _SECONDS
    while True:
        message = await asyncio.to_thread(api_request, "GET", f"/v1/messages/{sent.message_id}", sent.key)
        ended = message["status"] in SETTLED and message["status"] not in ("SENT", "DELIVERED")
        if message["status"] == wanted or ended or time.monotonic() > deadline:
            return _row(sent.account, message, wanted)
        await asyncio.sleep(_POLL_INTERVAL)


def _row(account: Account, message: Mapping[str, Any], wanted: str) -> Row:
    from sluice.providers.contract import RECEIPT_TYPES

    events = message["events"]
    tried = [f"{event['provider']['name']} {event['type']}" for event in events if event["type"] in _SHOWN]
    receipts = tuple(event["type"] for event in events if event["type"] in RECEIPT_TYPES.difference(_SHOWN))
    failed_over = any(event["type"] == "attempt_failed" for event in events)
    path = _CAPTURED_AS if account.package == _LINK else ", ".join(tried)
    arrived = message["status"] == wanted and failed_over
    return Row(account.package, account.channel.value, arrived, path, receipts, message["status"], message["id"])


_SHOWN = ("attempt_failed", "sent")


def format_table(rows: Sequence[Row]) -> str:
    """The rows under headings, and a line with their number."""
    head = ("package", "channel", "what happened", "receipts", "state")
    body = [
        (row.package, row.channel, row.path, ", ".join(row.receipts) or "-", row.state or "-")
        for row in sorted(rows, key=lambda row: (row.channel, row.package))
    ]
    arrived, tried = sum(row.arrived is True for row in rows), sum(row.arrived is not None for row in rows)
    return "\n".join([*table([head, *body]), "", f"{arrived} of {tried} messages arrived"])
