"""``sluice provider`` against a gateway over HTTP."""

import json
from functools import partial

import pytest

from tests.services.people import a_person
from tests.services.test_providers import SMTP


@pytest.fixture
def command(command):
    """Runs ``sluice provider``."""
    return partial(command, "provider")


async def test_the_life_of_a_provider(command):
    for name in ("first", "second", "third"):
        code, out, err = await command("add", "provider-smtp", name, given=json.dumps(SMTP))
        assert (code, err, name in out) == (0, "", True)
    await command("move", "third", "1")
    await command("disable", "first")
    _, listed, _ = await command("list", "--channel", "email")
    _, enabled, _ = await command("enable", "first", "--json")
    code, removed, _ = await command("remove", "second")
    _, left, _ = await command("list", "--json")

    assert [line.split()[4:6] for line in listed.splitlines()] == [
        ["third", "enabled"],
        ["first", "disabled"],
        ["second", "enabled"],
    ]
    assert json.loads(enabled)[0]["enabled"] is True
    assert (code, "is removed" in removed) == (0, True)
    assert [row["name"] for row in json.loads(left)] == ["third", "first"]
    assert "correct-horse" not in listed + enabled + left


async def test_errors_name_their_cause(command):
    await command("add", "provider-smtp", "mail", given=json.dumps(SMTP))

    for arguments, given, text in [
        (("add", "provider-smtp", "x"), "no JSON", "not JSON"),
        (("add", "provider-smtp", "x"), "{}", "credentials.host: is required"),
        (("enable", "other"), "", "no provider has the id or name 'other'"),
        (("move", "mail", "2"), "", "position: must be 1 to 1"),
    ]:
        code, _, err = await command(*arguments, given=given)
        assert (code, text in err) == (1, True), err


async def test_a_session_names_its_project(command, gateway):
    ada = await a_person(gateway, "ada@example.com", shop="owner")

    code, out, _ = await command("list", "--key", ada.token, "--project", "shop")

    assert (code, out) == (0, "no providers\n")
