"""Templates: the routes, and messages that are made from them."""

import asyncio
import json

import pytest

from gateway.kit.pagination import encode_cursor
from gateway.messages.v1_schemas import to_command
from sluice.model.ids import encode_id
from sluice.store import audit, projects
from sluice.store.config_cache import ConfigCache
from sluice.store.logins import GATEWAY
from sluice.templates.process_pool import RendererBusyError
from tests.engine import as_login
from tests.examples import a_body, an_id, as_json
from tests.polling import wait_until
from tests.services.fakes import FakeRecord
from tests.services.people import a_person
from tests.services.test_gateway import Gateway, error_of

TEMPLATES = "/v1/templates"
AN_EMAIL = {
    "name": "shipped",
    "kind": "email",
    "subject": "Order {{order.number}} for {{name}}",
    "html": "<p>Hello {{name}}, {{#each order.items}}<b>{{this}}</b>{{/each}}</p>",
    "text": "Hello {{name}}",
}
VARIABLES = {"name": "Ada & <Bob>", "order": {"number": 7, "items": ["<tea>", "milk"]}}


async def create(gateway, **changes):
    body = {name: value for name, value in (AN_EMAIL | changes).items() if value is not None}
    answer = await gateway.ask("POST", TEMPLATES, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def a_text_template(gateway, text="Hello {{name}}"):
    return await create(gateway, kind="text", subject=None, html=None, text=text)


def an_email_from(template, **changes):
    return a_body(subject=None, text=None, template_id=template["id"], variables=VARIABLES) | changes


async def send(gateway, body, **options):
    return await gateway.post(as_json({name: value for name, value in body.items() if value is not None}), **options)


async def content_of(gateway, answer):
    assert answer.status_code == 201, answer.text
    message = (await gateway.ask("GET", f"/v1/messages/{answer.json()['id']}")).json()
    content = await gateway.pool.fetchval("SELECT content FROM messages ORDER BY id DESC LIMIT 1")
    return json.loads(content), message


# -- the routes --------------------------------------------------------------------------------------------------------


async def test_a_template_is_created_read_listed_changed_and_deleted(gateway):
    created = await create(gateway)
    one = f"{TEMPLATES}/{created['id']}"
    read = (await gateway.ask("GET", one)).json()
    listed = (await gateway.ask("GET", TEMPLATES)).json()["data"]
    changed = (await gateway.ask("PATCH", one, json={"name": "sent", "subject": "{{title}}", "text": None})).json()
    renamed = (await gateway.ask("PATCH", one, json={"name": "on its way"})).json()
    versions = (await gateway.ask("GET", f"{one}/versions")).json()["data"]
    first = (await gateway.ask("GET", one, params={"version": 1})).json()
    deleted = await gateway.ask("DELETE", one)
    gone = [await gateway.ask(method, one) for method in ("GET", "DELETE")]

    assert read == created
    assert created["variables"] == ["order.number", "name", "order.items", "order.items[]"]
    assert [row["id"] for row in listed] == [created["id"]]
    assert "html" not in listed[0]
    assert (changed["version"], changed["name"], changed["text"]) == (2, "sent", None)
    assert changed["variables"] == ["title", "name", "order.items", "order.items[]"]
    assert (renamed["version"], renamed["name"]) == (2, "on its way")
    assert [row["version"] for row in versions] == [2, 1]
    assert (first["subject"], first["text"], first["version"]) == (AN_EMAIL["subject"], AN_EMAIL["text"], 1)
    assert deleted.json() == {"id": created["id"], "deleted": True}
    for answer in gone:
        error_of(answer, 404, "NOT_FOUND")
    assert (await gateway.ask("GET", TEMPLATES)).json()["data"] == []


async def test_the_versions_are_paged(gateway):
    one = f"{TEMPLATES}/{(await create(gateway))['id']}"
    for number in range(4):
        await gateway.ask("PATCH", one, json={"text": f"text {number}"})

    found, cursor = [], None
    for _ in range(3):
        page = (
            await gateway.ask("GET", f"{one}/versions", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        ).json()
        found += [row["version"] for row in page["data"]]
        cursor = page["next_cursor"]

    assert (found, cursor) == ([5, 4, 3, 2, 1], None)
    of_another_list = {"cursor": encode_cursor(an_id())}
    assert error_of_field(await gateway.ask("GET", f"{one}/versions", params=of_another_list)) == "cursor"


@pytest.mark.parametrize(
    ("changes", "field", "line", "column"),
    [
        ({"html": "<p>\n  {{#if name}}\n</p>"}, "html", 2, 3),
        ({"subject": "{{name"}, "subject", 1, 1),
        ({"text": "a\n{{nothing 1}}"}, "text", 2, 3),
        ({"text": "{{> partial}}"}, "text", 1, 1),
    ],
)
async def test_a_fault_in_a_source_has_its_place(gateway, changes, field, line, column):
    created = await create(gateway)
    saved = await gateway.ask("POST", TEMPLATES, json=AN_EMAIL | changes)
    updated = await gateway.ask("PATCH", f"{TEMPLATES}/{created['id']}", json=changes)
    previewed = await gateway.ask("POST", f"{TEMPLATES}/preview", json={"kind": "email", **changes})

    for answer in (saved, updated, previewed):
        error = answer.json()["error"]
        assert (answer.status_code, error["field"], error["line"], error["column"]) == (400, field, line, column)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "sms"}, "kind"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"html": None, "text": None}, "text"),
        ({"kind": "text"}, "subject"),
        ({"kind": "push"}, "html"),
        ({"data": {"a": "b"}}, "data"),
        ({"kind": "push", "html": None, "subject": None, "text": None}, "text"),
        ({"kind": "push", "html": None, "data": {"a": "{{"}}, "data.a"),
        ({"kind": "push", "html": None, "data": {str(n): "x" for n in range(101)}}, "data"),
        ({"text": "x" * 262_145}, "text"),
        ({"text": "a\0b"}, "text"),
        ({"version": 1}, "version"),
    ],
)
async def test_a_bad_template_names_the_field(gateway, changes, field):
    body = {name: value for name, value in (AN_EMAIL | changes).items() if value is not None}

    assert error_of_field(await gateway.ask("POST", TEMPLATES, json=body)) == field


def error_of_field(answer):
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "VALIDATION_ERROR"), answer.text
    return error["field"]


async def test_a_source_may_be_larger_than_other_bodies(gateway):
    source = "<p>\u00e9</p>\n" * 20_000

    template = await create(gateway, html=source)

    assert template["html"] == source


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param('{"a": [' + "1," * 40_000 + "1]}", id="numbers"),
        pytest.param('{"a": [' + '"text",' * 10_000 + '"text"]}', id="short-texts"),
        pytest.param("{" + " " * 70_000 + "}", id="blanks"),
        pytest.param(f'{{"a": "{"x" * 530_000}"}}', id="more-than-all"),
    ],
)
async def test_only_texts_may_be_larger_than_other_bodies(gateway, variables):
    template = await create(gateway)

    answer = await gateway.ask(
        "POST", f"{TEMPLATES}/{template['id']}/preview", content=f'{{"variables": {variables}}}'.encode()
    )

    error_of(answer, 413, "PAYLOAD_TOO_LARGE")


async def test_a_change_of_an_outdated_version_is_a_conflict(gateway):
    one = f"{TEMPLATES}/{(await create(gateway))['id']}"
    first = await gateway.ask("PATCH", one, json={"text": "a", "version": 1})
    second = await gateway.ask("PATCH", one, json={"text": "b", "version": 1})

    assert first.status_code == 200
    assert error_of(second, 409, "TEMPLATE_CHANGED")["field"] == "version"
    assert (await gateway.ask("GET", one)).json()["text"] == "a"


async def test_concurrent_changes_lose_nothing(gateway):
    one = f"{TEMPLATES}/{(await create(gateway))['id']}"

    answers = await asyncio.gather(*(gateway.ask("PATCH", one, json={"text": f"text {n}"}) for n in range(8)))

    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 409}
    assert (await gateway.ask("GET", one)).json()["version"] == 1 + statuses.count(200)


async def test_changes_are_in_the_audit_log(gateway):
    one = f"{TEMPLATES}/{(await create(gateway))['id']}"
    await gateway.ask("PATCH", one, json={"text": "new"})
    await gateway.ask("DELETE", one)
    await a_person(gateway, "ada@example.com", shop="owner")
    project = await projects.find_project_by_slug(gateway.pool, "shop")

    entries = await audit.list_entries(gateway.pool, project.id, limit=10, noun="template")

    assert [(entry.action, entry.changes.get("version")) for entry in entries] == [
        ("deleted", None),
        ("updated", 2),
        ("created", 1),
    ]


async def test_a_preview_shows_what_a_message_would_be(gateway):
    created = await create(gateway)
    await gateway.ask("PATCH", f"{TEMPLATES}/{created['id']}", json={"subject": "new"})

    old, new = [
        (
            await gateway.ask("POST", f"{TEMPLATES}/{created['id']}/preview", json={"variables": VARIABLES} | version)
        ).json()
        for version in ({"version": 1}, {})
    ]
    unknown = await gateway.ask("POST", f"{TEMPLATES}/{created['id']}/preview", json={"version": 3})

    assert old == {
        "subject": "Order 7 for Ada & <Bob>",
        "html": "<p>Hello Ada &amp; &lt;Bob&gt;, <b>&lt;tea&gt;</b><b>milk</b></p>",
        "text": "Hello Ada & <Bob>",
        "data": None,
    }
    assert new["subject"] == "new"
    error_of(unknown, 404, "NOT_FOUND")


async def test_sources_are_previewed_without_being_saved(gateway):
    body = {"kind": "push", "subject": "{{a}}", "data": {"k": "{{b}}"}, "variables": {"a": "A", "b": [1, 2]}}

    answer = await gateway.ask("POST", f"{TEMPLATES}/preview", json=body)

    assert answer.json() == {"subject": "A", "html": None, "text": None, "data": {"k": "1,2"}, "variables": ["a", "b"]}
    assert await gateway.pool.fetchval("SELECT count(*) FROM templates") == 0


# -- messages ----------------------------------------------------------------------------------------------------------


async def test_a_message_is_made_from_a_template_and_names_its_version(gateway):
    template = await create(gateway)
    one = f"{TEMPLATES}/{template['id']}"

    content, message = await content_of(gateway, await send(gateway, an_email_from(template)))
    await gateway.ask("PATCH", one, json={"text": "new"})
    later, later_message = await content_of(gateway, await send(gateway, an_email_from(template, subject="Own")))

    assert content["subject"] == "Order 7 for Ada & <Bob>"
    assert content["html"] == "<p>Hello Ada &amp; &lt;Bob&gt;, <b>&lt;tea&gt;</b><b>milk</b></p>"
    assert content["text"] == "Hello Ada & <Bob>"
    assert message["template"] == {"id": template["id"], "version": 1}
    assert (later["subject"], later["text"]) == ("Own", "new")
    assert later_message["template"] == {"id": template["id"], "version": 2}


@pytest.mark.parametrize(
    "addressing",
    [
        {"channel": "sms", "from": "Shop", "to": ["+14155550001"]},
        {"channel": "whatsapp", "to": ["+14155550001"]},
        {"channel": "telegram", "to": ["12345"]},
        {"channel": "signal", "to": ["+14155550001"]},
    ],
)
async def test_a_text_template_serves_every_channel_of_texts(gateway, addressing):
    template = await a_text_template(gateway)
    body = addressing | {"template_id": template["id"], "variables": {"name": "<Ada> & co"}}

    content, message = await content_of(gateway, await send(gateway, body))

    assert content["text"] == "Hello <Ada> & co"
    assert message["template"]["id"] == template["id"]


async def test_a_push_template_yields_title_text_and_data(gateway):
    body = {"name": "n", "kind": "push", "subject": "{{a}}", "text": "{{b}}", "data": {"x": "{{a}}", "y": "{{b}}"}}
    template = (await gateway.ask("POST", TEMPLATES, json=body)).json()
    sent = {"channel": "push", "to": ["token"], "template_id": template["id"], "variables": {"a": '"', "b": "B"}}

    content, _ = await content_of(gateway, await send(gateway, sent | {"channel_options": {"data": {"y": "own"}}}))

    assert (content["title"], content["text"], content["data"]) == ('"', "B", {"x": '"', "y": "own"})


async def test_a_line_break_in_a_variable_adds_no_header(gateway):
    template = await create(gateway, subject="Hello {{name}}")
    variables = {"name": "Ada\r\nBcc: eve@example.com\u2028x\x85y"}

    content, _ = await content_of(gateway, await send(gateway, an_email_from(template, variables=variables)))

    assert content["subject"] == "Hello Ada Bcc: eve@example.com x y"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"template_id": "tpl_none"}, "template_id"),
        ({"template_id": encode_id("tpl", an_id())}, "template_id"),
        ({"template_id": encode_id("msg", an_id())}, "template_id"),
        ({"template_id": None}, "variables"),
        ({"template_id": None, "variables": None}, "subject"),
        ({"text": "x"}, "text"),
        ({"html": "x"}, "html"),
        ({"variables": []}, "variables"),
        ({"attachments": [{"filename": "a", "content": "YQ==", "content_id": "x"}], "html": "y"}, "html"),
    ],
)
async def test_a_bad_use_of_a_template_names_the_field(gateway, changes, field):
    answer = await send(gateway, an_email_from(await create(gateway)) | changes)

    assert error_of_field(answer) == field
    assert await gateway.count() == 0


async def test_a_template_that_yields_nothing_is_refused(gateway):
    blank = await a_text_template(gateway, "{{name}} ")
    email = await create(gateway, text=None, html="{{#if name}}x{{/if}}", subject="x")
    sms = {"channel": "sms", "from": "Shop", "to": ["+14155550001"], "template_id": blank["id"]}

    for body in (sms, an_email_from(email, variables={})):
        assert error_of_field(await send(gateway, body)) == "variables"


async def test_a_template_without_a_subject_needs_one(gateway):
    template = await create(gateway, subject=None)

    refused = await send(gateway, an_email_from(template))
    content, _ = await content_of(gateway, await send(gateway, an_email_from(template, subject="Mine {{name}}")))

    assert error_of_field(refused) == "subject"
    assert content["subject"] == "Mine {{name}}"


async def test_a_template_of_another_kind_is_refused(gateway):
    template = await a_text_template(gateway)

    assert error_of_field(await send(gateway, an_email_from(template))) == "template_id"


async def test_an_inline_file_needs_html_of_the_template(gateway):
    with_html = await create(gateway)
    without = await create(gateway, html=None)
    files = {"attachments": [{"filename": "a.png", "content": "YQ==", "content_id": "logo"}]}

    assert (await send(gateway, an_email_from(with_html, **files))).status_code == 201
    assert error_of_field(await send(gateway, an_email_from(without, **files))) == "attachments.0.content_id"


async def test_a_template_of_another_project_is_unknown(gateway):
    template = await create(gateway)
    other = await gateway.new_project("other")

    foreign = await send(gateway, an_email_from(template), key=other)
    unknown = await send(gateway, an_email_from({"id": encode_id("tpl", an_id())}), key=other)

    assert foreign.json() == unknown.json()
    assert error_of_field(foreign) == "template_id"


async def test_a_repeat_gets_the_first_answer_whatever_became_of_the_template(gateway):
    template = await create(gateway)
    one = f"{TEMPLATES}/{template['id']}"
    body = an_email_from(template, idempotency_key="order-7")

    first = await send(gateway, body)
    await gateway.ask("PATCH", one, json={"text": "new"})
    second = await send(gateway, body)
    await gateway.ask("DELETE", one)
    third = await send(gateway, body)
    other = await send(gateway, body | {"variables": {}})

    assert [answer.status_code for answer in (first, second, third)] == [201] * 3
    assert first.json() == second.json() == third.json()
    error_of(other, 409, "IDEMPOTENCY_CONFLICT")
    assert await gateway.count() == 1


async def test_a_change_counts_in_every_gateway(gateway, role_pools, store_database):
    template = await create(gateway)
    async with ConfigCache().subscribed(as_login(store_database, GATEWAY)) as config:
        other = Gateway(gateway.pool, role_pools.gateway, config, gateway.bus)
        async with other.templates.running():
            project_id = await gateway.pool.fetchval("SELECT id FROM projects")
            use = to_command(as_json({n: v for n, v in an_email_from(template).items() if v is not None}))

            async def version():
                return (await other.templates.apply(use, use.template, project_id)).template_version

            assert await version() == 1
            await gateway.ask("PATCH", f"{TEMPLATES}/{template['id']}", json={"text": "new"})

            async def is_new():
                return await version() == 2

            await wait_until(is_new)
        await other.client.aclose()


async def test_many_messages_share_the_look_up_of_their_template(gateway, monkeypatch):
    template = await create(gateway)
    body = an_email_from(template)
    loads = []
    load = gateway.templates.store._batcher._flush

    async def counted(keys):
        loads.append(keys)
        return await load(keys)

    monkeypatch.setattr(gateway.templates.store._batcher, "_flush", counted)
    await asyncio.gather(*(send(gateway, body) for _ in range(20)))
    await asyncio.gather(*(send(gateway, body) for _ in range(20)))

    assert await gateway.count() == 40
    assert len(loads) <= 2


async def test_a_record_on_kafka_is_rendered_as_a_request_is(gateway):
    template = await create(gateway)
    body = {name: value for name, value in an_email_from(template).items() if value is not None}
    good = FakeRecord(as_json(body), headers=(("x-sendpipe-key", gateway.key.encode()),))
    bad = FakeRecord(
        as_json(body | {"template_id": "tpl_none"}), headers=(("x-sendpipe-key", gateway.key.encode()),), offset=1
    )

    await gateway.ingress.handle_batch([good, bad])
    await wait_until(lambda: good.acked and bad.acked)

    content = json.loads(await gateway.pool.fetchval("SELECT content FROM messages"))
    assert content["subject"] == "Order 7 for Ada & <Bob>"
    (rejected,) = [
        one for one in map(json.loads, gateway.bus.on("delivery.events")) if one["type"] == "request_rejected"
    ]
    assert (rejected["code"], rejected["field"]) == ("VALIDATION_ERROR", "template_id")


# -- hostile templates -------------------------------------------------------------------------------------------------

_LIST = list(range(400))
BOMBS = {
    "nested loops": ("{{#each a}}{{#each @root.a}}{{#each @root.a}}x{{/each}}{{/each}}{{/each}}", {"a": _LIST}),
    "doubling output": ("{{#each a}}{{#each @root.a}}{{@root.t}}{{/each}}{{/each}}", {"a": _LIST, "t": "x" * 5_000}),
    "long join": ("{{#each a}}{{@root.a}}{{/each}}" * 50, {"a": _LIST}),
    "helpers": ("{{#each a}}{{uppercase @root.t}}{{/each}}", {"a": _LIST, "t": "x" * 50_000}),
    "escaping": ("{{#each a}}{{@root.t}}{{/each}}", {"a": _LIST, "t": "<" * 50_000}),
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_bomb_is_refused_and_does_not_stop_the_others(gateway, bomb):
    source, variables = BOMBS[bomb]
    template = await create(gateway, html=source, subject="x", text=None)
    good = await create(gateway)
    await send(gateway, an_email_from(good))
    body = an_email_from(template, variables=variables)
    if len(as_json(body)) > 100_000:
        body["variables"] = variables | {"t": variables["t"][:20_000]}
    bombed, *others = await asyncio.gather(send(gateway, body), *(send(gateway, an_email_from(good)) for _ in range(5)))
    previewed = await gateway.ask(
        "POST", f"{TEMPLATES}/{template['id']}/preview", json={"variables": body["variables"]}
    )

    assert error_of_field(bombed) == error_of_field(previewed) == "variables"
    assert [answer.status_code for answer in others] == [201] * 5


async def test_a_push_template_of_many_expensive_parts_shares_one_limit(gateway):
    loop = "{{#each a}}{{#each @root.a}}x{{/each}}{{/each}}"
    body = {"name": "n", "kind": "push", "data": {f"k{n}": loop for n in range(100)}}
    template = (await gateway.ask("POST", TEMPLATES, json=body)).json()
    sent = {"channel": "push", "to": ["token"], "template_id": template["id"], "variables": {"a": list(range(150))}}

    assert error_of_field(await send(gateway, sent)) == "variables"


async def test_while_too_many_expensive_templates_wait_a_request_is_refused_for_now(gateway, monkeypatch):
    async def busy(*_, **__):
        raise RendererBusyError("too many expensive templates wait to be rendered")

    template = await create(gateway)
    monkeypatch.setattr(gateway.templates.engine, "render_all", busy)

    answer = await send(gateway, an_email_from(template))

    error_of(answer, 503, "UNAVAILABLE")
    assert answer.headers["retry-after"]
    assert await gateway.count() == 0
