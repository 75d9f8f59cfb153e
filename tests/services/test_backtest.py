"""`sluice backtest` on a database, with the login of the `sluice` program."""

import asyncio
import json

import pytest

from sluice.model import ids
from sluice.model.message import Channel
from sluice.store import projects, providers
from sluice.store.logins import OPERATOR
from sluice_cli.main import main
from tests.engine import as_login
from tests.examples import NOON, after, milliseconds

WHEN = ("--since", "2026-08-20T11:00:00Z", "--until", "2026-08-20T13:00:00Z")


class Traffic:
    """A project with two SMS providers and deliveries through them."""

    def __init__(self, store, project):
        self.pool, self.project = store.pool, project

    async def provider(self, name, **fields):
        provider_id = ids.uuid7(milliseconds(NOON))
        async with self.pool.acquire() as connection, connection.transaction():
            await providers.create_provider(
                connection,
                provider_id,
                self.project.id,
                **{"package": "provider-twilio", "channel": Channel.SMS, "name": name, "now": NOON} | fields,
                encrypted_credentials=b"",
            )
        return provider_id

    async def deliver(self, at, *attempts, sandbox=False):
        """A delivery with attempts: (provider, outcome, seconds that it takes)."""
        id_ = ids.uuid7(milliseconds(after(at)))
        await self.pool.execute(
            "INSERT INTO messages (id, project_id, channel, delivery_class, content, tags, sandbox, expires_at,"
            " created_at) VALUES ($1, $2, 'sms', 'standard', '{}', '{}', $3, $4, $5)",
            *(id_, self.project.id, sandbox, after(at + 3600), after(at)),
        )
        await self.pool.execute(
            "INSERT INTO deliveries (id, message_id, project_id, channel, delivery_class, recipient, sandbox, state,"
            " expires_at) VALUES ($1, $1, $2, 'sms', 'standard', '+4915112345678', $3, 'SENT', $4)",
            *(id_, self.project.id, sandbox, after(at + 3600)),
        )
        for number, (provider, outcome, took) in enumerate(attempts, 1):
            await self.pool.execute(
                "INSERT INTO attempts (delivery_id, number, project_id, provider_id, retry_round, client_reference,"
                " routing_decision, started_at, finished_at, outcome) VALUES ($1, $2, $3, $4, 1, '', '', $5, $6, $7)",
                *(id_, number, self.project.id, provider, after(at), after(at + took), outcome),
            )
            at += took

    async def outage(self, first, second):
        """One delivery a second for five minutes; the first provider is dead from the second minute on."""
        for at in range(300):
            if at < 60:
                await self.deliver(at, (first, "accepted", 0.2))
            else:
                await self.deliver(at, (first, "provider_fault", 1.0), (second, "accepted", 0.2))


@pytest.fixture
async def traffic(store):
    project = await projects.create_project(store.pool, organization="Shop", slug="shop", name="Shop", now=NOON)
    return Traffic(store, project)


@pytest.fixture
def backtest(store_database, monkeypatch, capsys):
    monkeypatch.setenv("SLUICE_POSTGRES_DSN", as_login(store_database, OPERATOR))

    async def run(*arguments):
        code = await asyncio.to_thread(main, ["backtest", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


async def test_an_outage_under_each_policy(traffic, backtest):
    first, second = await traffic.provider("north", settings={"price": 0.01}), await traffic.provider("south")
    await traffic.outage(first, second)
    await traffic.deliver(10)
    await traffic.deliver(10, (first, "accepted", 0.2), sandbox=True)

    code, out, error = await backtest(*WHEN, "--json")

    assert (code, error) == (0, "")
    (found,) = json.loads(out)["channels"]
    assert (found["project"], found["channel"], found["deliveries"], found["never_attempted"]) == (
        "shop",
        "sms",
        300,
        1,
    )
    policies = found["policies"]
    assert policies["recorded"]["first_accepted"] == policies["static"]["first_accepted"] == 20
    assert policies["recorded"]["shares"] == {"north": 100}
    assert policies["adaptive"]["first_accepted"] > 90
    assert policies["adaptive"]["shares"]["south"] > 60
    assert policies["adaptive"]["ejections"] == 1
    assert found["answers"]["static"] == {
        **{"own": 540, "of_others": 0},
        **{"median_distance_s": None, "largest_distance_s": None},
    }


async def test_thresholds_of_the_environment_are_tried(traffic, backtest, monkeypatch):
    await traffic.outage(await traffic.provider("north"), await traffic.provider("south"))
    shares = []
    for rules in ({}, {"consecutive_failures": 40, "min_samples": 1000}):
        monkeypatch.setenv("SLUICE_HEALTH_THRESHOLDS", json.dumps(rules))
        _, out, _ = await backtest(*WHEN, "--policy", "adaptive", "--json")
        shares.append(json.loads(out)["channels"][0]["policies"]["adaptive"]["first_accepted"])
    monkeypatch.setenv("SLUICE_HEALTH_THRESHOLDS", "{")

    assert shares[0] > shares[1] + 10
    assert await backtest(*WHEN) == (1, "", "sluice: invalid settings: SLUICE_HEALTH_THRESHOLDS: must be JSON\n")


async def test_the_newest_deliveries_are_read_and_said_to_be_a_part(traffic, backtest):
    first = await traffic.provider("north")
    await traffic.provider("south")
    for at in range(8):
        await traffic.deliver(at, (first, "accepted", 0.2))

    code, out, _ = await backtest(*WHEN, "--limit", "5", "--policy", "static")

    assert code == 0
    assert "shop, sms: 5 deliveries, 2026-08-20 12:00 to 2026-08-20 12:00 UTC" in out
    assert "--limit" in out
    assert "excluded, since no attempt says how they answer: south" in out


async def test_pages_of_deliveries_are_in_no_gap_and_no_overlap(traffic, backtest, monkeypatch):
    first = await traffic.provider("north")
    for at in range(23):
        await traffic.deliver(at // 3, (first, "accepted", 0.2))
    monkeypatch.setattr("sluice_cli.backtest.command._PAGE", 5)

    _, out, _ = await backtest(*WHEN, "--policy", "static", "--json")

    found = json.loads(out)["channels"][0]
    assert (found["deliveries"], found["limited"]) == (23, False)


async def test_what_cannot_be_replayed_is_said(traffic, backtest):
    north = await traffic.provider("north")

    assert await backtest(*WHEN) == (
        *(1, ""),
        "sluice: shop has no delivery between 2026-08-20 11:00 and 2026-08-20 13:00 UTC\n",
    )
    await traffic.deliver(0)
    assert (await backtest(*WHEN))[2] == "sluice: sms: none of 1 deliveries has an attempt that has ended\n"
    await traffic.deliver(0, (north, "accepted", 0.2))
    await traffic.pool.execute("UPDATE providers SET enabled = false")
    assert "sms: no enabled provider has an attempt in this time" in (await backtest(*WHEN))[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--project", "none"], "--project: there is no project 'none'"),
        (["--since", "2026-08-20", "--until", "2026-08-19"], "--since: must be before --until"),
        (["--channel", "fax"], "--channel: there is no 'fax': there are email, sms"),
    ],
)
async def test_an_argument_that_does_not_fit_is_named(traffic, backtest, arguments, message):
    code, _, error = await backtest(*arguments)

    assert (code, message in error) == (1, True)


async def test_the_project_is_that_of_the_demo(store, traffic, backtest, monkeypatch, tmp_path):
    await traffic.deliver(0, (await traffic.provider("north"), "accepted", 0.2))
    await projects.create_project(store.pool, organization="Other", slug="other", name="Other", now=NOON)
    (tmp_path / "demo.json").write_text('{"project": "shop", "key": "sp_live_a", "test_key": "sp_test_b"}')
    monkeypatch.setenv("SLUICE_DATA_DIR", str(tmp_path))

    assert (await backtest(*WHEN))[0] == 0


async def test_one_of_several_projects_is_named(store, traffic, backtest):
    await projects.create_project(store.pool, organization="Other", slug="other", name="Other", now=NOON)

    assert (await backtest(*WHEN))[
        2
    ] == "sluice: --project: there are several projects, or none: `sluice project list` shows them\n"


async def test_a_project_is_replayed_alone(store, traffic, backtest):
    other = await projects.create_project(store.pool, organization="Other", slug="other", name="Other", now=NOON)
    theirs = Traffic(store, other)
    await traffic.deliver(0, (await traffic.provider("north"), "accepted", 0.2))
    await theirs.deliver(0, (await theirs.provider("west"), "accepted", 0.2))

    _, out, _ = await backtest(*WHEN, "--project", "other", "--json")

    assert json.loads(out)["channels"][0]["policies"]["recorded"]["shares"] == {"west": 100}
