"""``sluice template``, ``member``, ``webhook`` and ``suppression`` against a gateway over HTTP."""

import json

import pytest

from tests.services.people import a_person


async def test_the_life_of_a_template(command, tmp_path):
    (tmp_path / "mail.html").write_text("<p>Hello {{name}}</p>")
    created = await command(
        *("template", "create", "welcome", "--kind", "email", "--subject", "Hi {{name}}"),
        *("--html", str(tmp_path / "mail.html")),
    )
    updated = await command("template", "update", "welcome", "--text", "-", given="Hello {{name}}, in text")
    _, shown, _ = await command("template", "show", "welcome")
    _, preview, _ = await command("template", "preview", "welcome", "--variables", '{"name": "Ada"}', "--json")
    _, listed, _ = await command("template", "list", "--kind", "email")
    code, removed, _ = await command("template", "remove", "welcome")

    identifier = created[1].split()[0]
    assert created[0] == updated[0] == code == 0
    assert created[1].split()[1:] == ["email", "version", "1", "welcome", "name"]
    assert updated[1].split()[:4] == [identifier, "email", "version", "2"]
    assert shown.splitlines()[1:] == [
        "subject: Hi {{name}}",
        "html: <p>Hello {{name}}</p>",
        "text: Hello {{name}}, in text",
    ]
    assert json.loads(preview)["text"] == "Hello Ada, in text"
    assert listed == updated[1]
    assert removed == f"{identifier} is removed\n"
    assert (await command("template", "list"))[1] == "no templates\n"


async def test_the_life_of_a_webhook(command):
    url = "https://shop.example/hooks"
    _, added, _ = await command("webhook", "add", url, "--events", "delivered, bounced", "--channels", "email")
    _, rotated, _ = await command("webhook", "rotate", url)
    _, disabled, _ = await command("webhook", "disable", url)
    _, enabled, _ = await command("webhook", "enable", url, "--json")
    _, tested, _ = await command("webhook", "test", url)
    _, deliveries, _ = await command("webhook", "deliveries", url)
    code, replayed, _ = await command("webhook", "replay", url, tested.split()[0])
    _, removed, _ = await command("webhook", "remove", url)

    line, secret = added.splitlines()
    assert line.split() == [line.split()[0], "enabled", url, "delivered,bounced"]
    assert secret.startswith("secret: whsec_")
    assert rotated.splitlines()[0] not in added
    assert "disabled (by hand)" in disabled
    assert json.loads(enabled)["channels"] == ["email"]
    assert deliveries.split()[0] == tested.split()[0] == replayed.split()[0]
    assert code == 0
    assert removed == f"{line.split()[0]} is removed\n"


async def test_the_life_of_a_suppression(command):
    _, added, _ = await command("suppression", "add", "ada@example.com", "bob@example.com", "--detail", "by phone")
    _, again, _ = await command("suppression", "add", "ada@example.com")
    _, listed, _ = await command("suppression", "list", "--channel", "email", "--limit", "1", "--json")
    code, removed, _ = await command("suppression", "remove", "ada@example.com")
    missing = await command("suppression", "remove", "ada@example.com")
    _, left, _ = await command("suppression", "list")

    assert added.startswith("added 2 of 2\n")
    assert again.startswith("added 0 of 1\n")
    assert len(json.loads(listed)) == 1
    assert (code, removed.split()[1:]) == (0, ["is", "removed"])
    assert missing == (
        1,
        "",
        "sluice: no suppression has the address 'ada@example.com': `sluice suppression list` shows the ids\n",
    )
    assert left.split()[2:] == ["bob@example.com", "manual", "by", "phone"]


async def test_the_life_of_a_member(command, gateway):
    owner = await a_person(gateway, "owner@example.com", shop="owner")
    await a_person(gateway, "ada@example.com")
    here = ("--key", owner.token, "--project", "shop")
    _, added, _ = await command("member", "add", "ada@example.com", "--role", "viewer", *here)
    _, changed, _ = await command("member", "role", "ada@example.com", "admin", *here, "--json")
    _, invited, _ = await command("member", "add", "new@example.com", *here)
    _, listed, _ = await command("member", "list", *here)
    code, removed, _ = await command("member", "remove", "ada@example.com", *here)
    refused, _, error = await command("member", "remove", "owner@example.com", *here)

    assert added.split()[1:] == ["VIEWER", "ada@example.com"]
    assert json.loads(changed)["role"] == "ADMIN"
    assert invited.startswith("new@example.com is invited as DEVELOPER: ")
    assert {tuple(line.split()[1:]) for line in listed.splitlines()} == {
        ("ADMIN", "owner@example.com"),
        ("ADMIN", "ada@example.com"),
    }
    assert (code, removed) == (0, f"{added.split()[0]} is removed\n")
    assert (refused, error.startswith("sluice: "), error.count("\n")) == (1, True, 1)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("template", "show", "nothing"), "no template has the id or name 'nothing': `sluice template list` shows"),
        (("template", "update", "nothing"), "nothing changes: give --subject, --html or --text"),
        (("template", "create", "a", "--kind", "letter"), "kind: "),
        (("template", "create", "a", "--kind", "text", "--text", "/nowhere"), "/nowhere cannot be read: "),
        (("webhook", "add", "ftp://x", "--events", "sent"), "url: must be an http or https URL"),
        (("webhook", "add", "https://x.example", "--events", "arrived"), "events"),
        (("suppression", "add", "not-an-address"), "addresses"),
        (("suppression", "remove", "sup_0"), ""),
        (("member", "list"), "--project is required: the slug of the project"),
    ],
)
async def test_what_is_wrong_is_one_sentence(command, words, error):
    code, out, err = await command(*words)

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("sluice: ")
    assert error in err


async def test_the_life_of_a_domain(command):
    _, added, _ = await command("domain", "add", "shop.example")
    _, listed, _ = await command("domain", "list")
    _, shown, _ = await command("domain", "show", "shop.example", "--json")
    failed, _, _ = await command("domain", "verify", "shop.example")
    code, removed, _ = await command("domain", "remove", "shop.example")

    line, *records = added.splitlines()
    identifier = line.split()[0]
    assert line.split()[1:] == ["pending", "shop.example"]
    assert listed == f"{line}\n"
    assert len(records) == len(json.loads(shown)["records"]) > 0
    assert (failed, code) == (1, 0)
    assert removed == f"{identifier} is removed\n"
    missing = await command("domain", "show", "shop.example")
    assert missing[0] == 1
    assert "no domain has the id or domain 'shop.example'" in missing[2]


MESSAGE = '{"message": {"channel": "email", "from": "a@shop.example", "subject": "News", "text": "Hello {{name}}"}}'
ROW = '{"to": "ada@example.com", "variables": {"name": "Ada"}}'


async def test_the_life_of_a_bulk_job(command, tmp_path):
    file = tmp_path / "news.jsonl"
    file.write_text(f"{MESSAGE}\n{ROW}\n")
    code, sent, error = await command("bulk", "send", str(file), "--idempotency-key", "news-7")
    assert (code, error) == (0, "")
    identifier = sent.split()[0]
    _, again, _ = await command("bulk", "send", str(file), "--idempotency-key", "news-7", "--json")
    _, listed, _ = await command("bulk", "list", "-n", "5")
    _, shown, _ = await command("bulk", "show", identifier, "--json")
    results = await command("bulk", "results", identifier)
    cancelled = await command("bulk", "cancel", identifier, "--json")

    assert sent.endswith("of 1\n")
    assert json.loads(again)["id"] == json.loads(shown)["id"] == identifier
    assert listed.split()[0] == identifier
    assert results[0] == 0
    assert cancelled[0] in (0, 1)  # a job that has ended cannot be cancelled


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("send", "/no/such/file"), "/no/such/file cannot be read"),
        (("show", "blk_unknown"), "rejected with 4"),
    ],
)
async def test_a_bulk_command_that_fails_is_one_line(command, arguments, error):
    code, _, text = await command("bulk", *arguments)

    assert code == 1
    assert error in text
    assert len(text.splitlines()) == 1


async def test_a_refused_bulk_file_names_the_row(command, tmp_path):
    file = tmp_path / "news.jsonl"
    file.write_text(f"{MESSAGE}\n{{}}\n")

    code, _, error = await command("bulk", "send", str(file))

    assert code == 1
    assert error.startswith("sluice: rejected with 4")


async def test_with_a_session_projects_and_keys_are_managed_over_the_api(command, gateway, monkeypatch):
    person = await a_person(gateway, "ada@example.com", shop="owner")
    monkeypatch.setenv("SLUICE_API_KEY", person.token)
    monkeypatch.delenv("SLUICE_POSTGRES_DSN", raising=False)

    _, slug, error = await command("project", "create", "Web Shop")
    assert error == ""
    _, projects, _ = await command("project", "list", "--json")
    _, key, _ = await command("key", "create", "web-shop", "--name", "web", "--test")
    _, listed, _ = await command("key", "list", "web-shop", "--json")
    [row] = json.loads(listed)
    code, revoked, _ = await command("key", "revoke", "web-shop", row["id"])

    assert slug == "web-shop\n"
    assert "web-shop" in [one["slug"] for one in json.loads(projects)]
    assert key.startswith(row["prefix"])
    assert (row["name"], row["test"], code) == ("web", True, 0)
    assert revoked == f"revoked: {row['id']}\n"


async def test_an_api_key_given_for_projects_is_a_clear_error(command, gateway):
    code, _, error = await command("project", "list", "--key", gateway.key)

    assert (code, error) == (1, "sluice: --key: needs a session (ses_…); an API key cannot manage projects and keys\n")
