"""Templates of the project API: the documented calls, what both APIs see of them, and errors."""

import json
from uuid import UUID, uuid4

import pytest

from gateway.kit.public_ids import read_id
from sluice.model.ids import encode_id
from sluice.model.message import content_adapter
from sluice.providers.adapters.sendgrid import build
from sluice.providers.registry import get_package
from tests.examples import as_json
from tests.services.people import a_person
from tests.services.project_api.conftest import error_of
from tests.unit.providers.examples import credentials_of, outbound

HTML = {"content-type": "text/html"}
WELCOME = """<!DOCTYPE html>
<html>
<head>
<title>Welcome Email</title>
</head>
<body>
<h1>Welcome {{firstName}}!</h1>
<p>Thank you for joining {{companyName}}.</p>
</body>
</html>
"""
A_MESSAGE = {
    "name": "welcome-message",
    "body": "Hi {{firstName}}, welcome to {{appName}}! Your verification code is {{code}}.",
}
A_PUSH = {
    "name": "Order Shipped",
    "title": "Your order is on the way, {{name}}!",
    "body": "Order #{{orderId}} has been shipped and will arrive by {{deliveryDate}}.",
    "data": {"screen": "order-tracking"},
}
NOUNS = ("/templates", "/message-templates", "/push-templates")
V1_KINDS = dict(zip(NOUNS, ("email", "text", "push"), strict=True))


async def create(api, noun="/templates", *, project_id=None, **fields):
    """A template, by the owner, as JSON."""
    bodies = {"/templates": {"name": "welcome-email", "html": WELCOME}}
    body = bodies.get(noun, A_MESSAGE if noun == "/message-templates" else A_PUSH)
    named = {"projectId": str(project_id or api.project_id)}
    answer = await api.ask("POST", noun, json=body | named | fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


def variables_path(noun, template_id):
    return f"{noun}/variables/{template_id}" if noun == "/templates" else f"{noun}/{template_id}/variables"


# -- the documented examples -------------------------------------------------------------------------------------------


async def test_an_email_template_is_created_from_html(api):
    answer = await api.ask(
        "POST", f"/templates?projectId={api.project_id}&name=welcome-email", content=WELCOME, headers=HTML
    )

    assert answer.status_code == 201
    created = answer.json()
    assert list(created) == ["id", "name", "projectId", "createdAt"]
    assert str(UUID(created["id"])) == created["id"]
    assert (created["name"], created["projectId"]) == ("welcome-email", str(api.project_id))
    assert created["createdAt"].endswith("Z")
    read = (await api.ask("GET", f"/templates/{created['id']}")).json()
    assert (read["html"], read["subject"], read["text"]) == (WELCOME, None, None)


async def test_an_email_template_is_created_with_its_subject_in_the_query(api):
    query = {"name": "welcome-email", "subject": "Hello {{firstName}}"}
    created = (await api.ask_with_key("POST", "/templates", params=query, content=WELCOME, headers=HTML)).json()

    assert (await api.ask("GET", f"/templates/{created['id']}")).json()["subject"] == "Hello {{firstName}}"


async def test_an_email_template_is_created_from_json(api):
    body = {"name": "both", "subject": "{{a}}", "html": "<p>{{b}}</p>", "text": "{{c}}"}
    created = (await api.ask("POST", "/templates", json=body | {"projectId": str(api.project_id)})).json()
    read = (await api.ask("GET", f"/templates/{created['id']}")).json()

    assert read == created | body | {"variables": ["a", "b", "c"], "updatedAt": created["createdAt"]}


async def test_the_variables_of_an_email_template(api):
    created = await create(api, html=WELCOME + "{{activationUrl}}")

    answer = await api.ask("GET", f"/templates/variables/{created['id']}")

    assert answer.json() == {"variables": ["firstName", "companyName", "activationUrl"]}


async def test_the_preview_of_an_email_template(api):
    created = await create(api, html="<h1>Welcome {{firstName}}!</h1><p>Thank you for joining {{companyName}}.</p>")
    body = {"templateId": created["id"], "variables": {"firstName": "John", "companyName": "Nobu"}}

    with_key = await api.ask_with_key("POST", "/templates/preview", json=body)
    by_person = await api.ask("POST", "/templates/preview", json=body | {"projectId": str(api.project_id)})

    assert with_key.status_code == 200
    assert with_key.json() == {"preview": "<h1>Welcome John!</h1><p>Thank you for joining Nobu.</p>"}
    assert by_person.json() == with_key.json()


async def test_an_email_template_is_updated_from_html_with_a_key(api):
    one = f"/templates/{(await create(api))['id']}"

    updated = await api.ask_with_key(
        "PUT", f"{one}?name=updated-name", content="<html>Updated content here</html>", headers=HTML
    )

    assert (updated.status_code, updated.json()) == (200, (await api.ask("GET", one)).json())
    assert (updated.json()["name"], updated.json()["html"]) == ("updated-name", "<html>Updated content here</html>")


async def test_a_message_template_is_created_previewed_and_has_variables(api):
    answer = await api.ask("POST", "/message-templates", json=A_MESSAGE | {"projectId": str(api.project_id)})
    created = answer.json()
    variables = {"firstName": "John", "appName": "MyApp", "code": "123456"}
    body = {"templateId": created["id"], "projectId": str(api.project_id), "variables": variables}
    previewed = await api.ask_with_key("POST", "/message-templates/preview", json=body)
    read = await api.ask("GET", f"/message-templates/{created['id']}/variables")

    assert answer.status_code == 201
    assert set(created) == {"id", "name", "body", "projectId", "createdAt"}
    assert created.items() >= A_MESSAGE.items()
    assert previewed.json() == {"renderedMessage": "Hi John, welcome to MyApp! Your verification code is 123456."}
    assert read.json() == {"variables": ["firstName", "appName", "code"]}


async def test_a_push_template_is_created_updated_previewed_and_has_variables(api):
    answer = await api.ask("POST", "/push-templates", json=A_PUSH | {"projectId": str(api.project_id)})
    created = answer.json()
    one = f"/push-templates/{created['id']}"
    changes = {
        "title": "Your order is on its way, {{name}}!",
        "body": "Order #{{orderId}} will arrive by {{deliveryDate}}.",
    }
    updated = await api.ask_with_key("PUT", f"{one}?projectId={api.project_id}", json=changes)
    read = await api.ask("GET", f"{one}/variables")
    variables = {"name": "Ada & co", "orderId": 7, "deliveryDate": "Monday"}
    previewed = await api.ask_with_key(
        "POST", "/push-templates/preview", json={"templateId": created["id"], "variables": variables}
    )

    assert answer.status_code == 201
    assert set(created) == {"id", "name", "title", "body", "data", "projectId", "createdAt"}
    assert created.items() >= A_PUSH.items()
    assert updated.json().items() >= (A_PUSH | changes).items()
    assert read.json() == {"variables": ["name", "orderId", "deliveryDate"]}
    assert previewed.json() == {
        "title": "Your order is on its way, Ada & co!",
        "body": "Order #7 will arrive by Monday.",
        "data": {"screen": "order-tracking"},
    }


@pytest.mark.parametrize("noun", NOUNS)
async def test_templates_are_listed_by_page(api, noun):
    made = [(await create(api, noun, name=f"template {number}"))["id"] for number in range(5)]
    for other in NOUNS:
        if other != noun:
            await create(api, other)

    by_query = await api.ask("GET", noun, project_id=api.project_id, params={"page": 2, "limit": 2})
    by_path = await api.ask("GET", f"{noun}/project/{api.project_id}", params={"page": 2, "limit": 2})
    with_key = await api.ask_with_key("GET", noun)
    default = (await api.ask("GET", noun)).json()

    assert [row["id"] for row in by_query.json()["data"]] == [made[2], made[1]]
    assert by_query.json()["meta"] == {
        **{"total": 5, "page": 2, "limit": 2, "totalPages": 3},
        **{"hasNextPage": True, "hasPreviousPage": True},
    }
    assert by_path.json() == by_query.json()
    assert with_key.json() == default
    assert [row["id"] for row in default["data"]] == made[::-1]
    assert default["meta"]["limit"] == 50
    assert set(default["data"][0]) == {"id", "name", "projectId", "createdAt", "updatedAt", "variables"}
    assert "limit" in error_of(await api.ask("GET", noun, params={"limit": 101}), 400)


async def test_without_a_project_the_list_has_those_in_which_the_person_may_read_templates(api):
    both = await a_person(api.gateway, "both@example.com", shop="developer", own="owner", seen="viewer")
    own = await api.gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'own'")
    ours = await create(api)
    theirs = (
        await both.ask_project_api("POST", "/templates", json={"projectId": str(own), "name": "theirs", "html": "x"})
    ).json()

    listed = (await both.ask_project_api("GET", "/templates")).json()
    only_own = (await both.ask_project_api("GET", "/templates", project_id=own)).json()

    assert [(row["id"], row["projectId"]) for row in listed["data"]] == [
        (theirs["id"], str(own)),
        (ours["id"], str(api.project_id)),
    ]
    assert listed["meta"]["total"] == 2
    assert [row["id"] for row in only_own["data"]] == [theirs["id"]]
    without = await a_person(api.gateway, "without@example.com")
    assert (await without.ask_project_api("GET", "/templates")).json()["data"] == []


@pytest.mark.parametrize("noun", NOUNS)
async def test_a_deleted_template_is_gone(api, noun):
    template_id = (await create(api, noun))["id"]
    one = f"{noun}/{template_id}"

    deleted = await api.ask("DELETE", one)

    assert (deleted.status_code, deleted.json()) == (200, {"message": "Template deleted successfully"})
    wanted = {"templateId": template_id, "projectId": str(api.project_id)}
    for answer in (
        await api.ask("GET", one),
        await api.ask("PUT", one, json={"name": "new"}),
        await api.ask("DELETE", one),
        await api.ask("GET", variables_path(noun, template_id)),
        await api.ask("POST", f"{noun}/preview", json=wanted),
        await api.ask_with_key("GET", one),
    ):
        assert error_of(answer, 404, "Template not found") == "Template not found"
    assert (await api.ask("GET", noun)).json()["data"] == []


# -- both APIs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noun", NOUNS)
async def test_a_template_of_this_api_is_one_of_v1(api, noun):
    created = await create(api, noun)
    tpl = encode_id("tpl", UUID(created["id"]))

    there = (await api.gateway.ask("GET", f"/v1/templates/{tpl}")).json()
    changed = await api.gateway.ask("PATCH", f"/v1/templates/{tpl}", json={"text": "new {{text}}", "name": "renamed"})
    here = (await api.ask("GET", f"{noun}/{created['id']}")).json()

    assert (there["id"], there["kind"], there["name"]) == (tpl, V1_KINDS[noun], created["name"])
    assert [row["id"] for row in (await api.gateway.ask("GET", "/v1/templates")).json()["data"]] == [tpl]
    assert changed.json()["version"] == 2
    assert (here["name"], here.get("text") or here["body"]) == ("renamed", "new {{text}}")
    assert here["variables"] == changed.json()["variables"]
    await api.ask("DELETE", f"{noun}/{tpl}")
    assert (await api.gateway.ask("GET", f"/v1/templates/{tpl}")).status_code == 404


@pytest.mark.parametrize(
    ("noun", "body", "fields"),
    [
        (
            "/templates",
            {"kind": "email", "subject": "{{a}}", "html": "<p>{{b}}</p>", "text": "{{c}}"},
            {"subject": "{{a}}", "html": "<p>{{b}}</p>", "text": "{{c}}"},
        ),
        ("/message-templates", {"kind": "text", "text": "{{a}}{{b}}{{c}}"}, {"body": "{{a}}{{b}}{{c}}"}),
        (
            "/push-templates",
            {"kind": "push", "subject": "{{a}}", "text": "{{b}}", "data": {"k": "{{c}}"}},
            {"title": "{{a}}", "body": "{{b}}", "data": {"k": "{{c}}"}},
        ),
    ],
)
async def test_a_template_of_v1_is_one_of_this_api(api, noun, body, fields):
    there = (await api.gateway.ask("POST", "/v1/templates", json=body | {"name": "from v1"})).json()
    plain = str(read_id("tpl", there["id"], LookupError()))

    here = await api.ask("GET", f"{noun}/{plain}")
    by_prefixed = await api.ask("GET", f"{noun}/{there['id']}")
    (listed,) = (await api.ask("GET", noun)).json()["data"]
    updated = await api.ask("PUT", f"{noun}/{plain}", json={"name": "from here"})

    expected = {"id": plain, "name": "from v1", "projectId": str(api.project_id), "variables": ["a", "b", "c"]}
    assert here.json().items() >= (expected | fields).items()
    assert by_prefixed.json() == here.json()
    assert listed.items() >= expected.items()
    assert updated.status_code == 200
    assert (await api.gateway.ask("GET", f"/v1/templates/{there['id']}")).json()["name"] == "from here"
    for other in NOUNS:
        if other != noun:
            error_of(await api.ask("GET", f"{other}/{plain}"), 404, "Template not found")
            error_of(await api.ask("PUT", f"{other}/{plain}", json={"name": "x"}), 404, "Template not found")
            error_of(await api.ask("DELETE", f"{other}/{plain}"), 404, "Template not found")
            preview = {"templateId": plain, "variables": {}}
            error_of(await api.ask_with_key("POST", f"{other}/preview", json=preview), 404, "Template not found")


VARIABLES = {
    "name": "Ada <b> & \"co\" 'x' `y` =z",
    "user": {"email": "ada@example.com"},
    "items": [{"title": "téa ☕"}, {"title": "<rum>"}],
    "at": "2026-03-27T10:00:00Z",
    "plan": "pro",
}
SOURCE = (
    "{{name}}|{{{name}}}|{{user.email}}|{{#if plan}}y{{else}}n{{/if}}{{#unless plan}}n{{/unless}}|"
    "{{#each items}}{{@index}}:{{this.title}};{{/each}}|{{#with user}}{{email}}{{/with}}|{{uppercase name}}|"
    "{{lowercase name}}|{{capitalize plan}}|{{default missing 'fallback & co'}}|{{formatDate at 'MM/DD/YYYY'}}|"
    "{{#ifEquals plan 'pro'}}pro{{else}}other{{/ifEquals}}|{{#ifNotEquals plan 'pro'}}other{{/ifNotEquals}}\r\n\t."
)


AN_EMAIL = {"channel": "email", "from": "a@example.com", "to": ["b@example.com"]}


async def preview(api, noun, template):
    answer = await api.ask_with_key(
        "POST", f"{noun}/preview", json={"templateId": template["id"], "variables": VARIABLES}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def sent(api, template, addressing):
    """The content of the message that is made from a template."""
    body = addressing | {"template_id": template["id"]}
    answer = await api.gateway.post(as_json(body | {"variables": VARIABLES}))
    assert answer.status_code == 201, answer.text
    return json.loads(await api.gateway.pool.fetchval("SELECT content FROM messages ORDER BY id DESC LIMIT 1"))


async def test_a_preview_of_an_email_is_what_is_sent(api):
    created = await create(api, html=SOURCE, subject="x")

    shown = (await preview(api, "/templates", created))["preview"]
    content = await sent(api, created, AN_EMAIL)
    request = build(
        outbound(content_adapter.validate_python(content)), credentials_of(get_package("provider-sendgrid"))
    )
    (part,) = json.loads(request.content)["content"]

    assert shown.encode() == content["html"].encode() == part["value"].encode()
    assert "Ada &lt;b&gt; &amp; &quot;co&quot; &#x27;x&#x27; &#x60;y&#x60; &#x3D;z|Ada <b>" in content["html"]


async def test_a_preview_of_a_text_email_is_what_is_sent(api):
    created = await create(api, html=None, text=SOURCE, subject="x")

    shown = (await preview(api, "/templates", created))["preview"]
    content = await sent(api, created, AN_EMAIL)

    assert shown.encode() == content["text"].encode()


@pytest.mark.parametrize(
    "addressing",
    [
        {"channel": "sms", "from": "Shop", "to": ["+14155550001"]},
        {"channel": "whatsapp", "to": ["+14155550001"]},
        {"channel": "telegram", "to": ["12345"]},
        {"channel": "signal", "to": ["+14155550001"]},
    ],
)
async def test_a_preview_of_a_message_is_what_is_sent(api, addressing):
    created = await create(api, "/message-templates", body=SOURCE)

    shown = (await preview(api, "/message-templates", created))["renderedMessage"]
    content = await sent(api, created, addressing)

    assert shown.encode() == content["text"].encode()
    assert content["text"].startswith(f"{VARIABLES['name']}|{VARIABLES['name']}|")


async def test_a_preview_of_a_notification_is_what_is_sent(api):
    created = await create(api, "/push-templates", title=SOURCE, body=SOURCE, data={"k": SOURCE})

    shown = await preview(api, "/push-templates", created)
    content = await sent(api, created, {"channel": "push", "to": ["token"]})

    assert as_json(shown) == as_json({"title": content["title"], "body": content["text"], "data": content["data"]})


# -- changes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noun", "field", "value"),
    [
        ("/templates", "name", "new"),
        ("/templates", "subject", "new"),
        ("/templates", "html", "<p>{{new}}</p>"),
        ("/templates", "text", "{{new}}"),
        ("/message-templates", "name", "new"),
        ("/message-templates", "body", "{{new}}"),
        ("/push-templates", "name", "new"),
        ("/push-templates", "title", "{{new}}"),
        ("/push-templates", "body", "{{new}}"),
        ("/push-templates", "data", {"other": "{{new}}"}),
        ("/push-templates", "data", None),
        ("/push-templates", "title", None),
        ("/push-templates", "body", None),
    ],
)
async def test_any_field_is_changed_alone(api, noun, field, value):
    created = await create(api, noun)
    one = f"{noun}/{created['id']}"
    before = (await api.ask("GET", one)).json()

    answer = await api.ask_with_key("PUT", one, json={field: value})

    after = (await api.ask("GET", one)).json()
    assert (answer.status_code, answer.json()) == (200, after)
    different = {key for key in before if before[key] != after[key]}
    assert after[field] == value
    assert different - {"updatedAt", "variables"} == {field}


async def test_another_name_alone_keeps_the_html(api):
    one = f"/templates/{(await create(api))['id']}"

    answer = await api.ask_with_key("PUT", f"{one}?name=only%20the%20name", headers=HTML)

    assert (answer.json()["name"], answer.json()["html"]) == ("only the name", WELCOME)


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noun", "field", "source", "line", "column"),
    [
        ("/templates", "html", "<p>\n  {{#if name}}\n</p>", 2, 3),
        ("/templates", "subject", "{{name", 1, 1),
        ("/templates", "text", "a\n\n {{shout name}}", 3, 4),
        ("/message-templates", "body", "a\n{{nothing 1}}", 2, 3),
        ("/push-templates", "title", "{{> partial}}", 1, 1),
        ("/push-templates", "body", "{{a}}}", 1, 4),
    ],
)
async def test_a_fault_in_a_source_has_its_line_and_column(api, noun, field, source, line, column):
    created = await create(api, noun)
    bodies = {"/templates": {"html": "x"}, "/message-templates": A_MESSAGE, "/push-templates": A_PUSH}
    body = bodies[noun] | {"name": "bad", field: source}

    for answer in (
        await api.ask_with_key("POST", noun, json=body),
        await api.ask_with_key("PUT", f"{noun}/{created['id']}", json={field: source}),
    ):
        assert error_of(answer, 400, "Bad Request").startswith(f"{field}: line {line}, column {column}: ")
    assert (await api.ask("GET", noun)).json()["meta"]["total"] == 1


async def test_a_fault_in_html_or_in_data_has_its_line_and_column(api):
    created = await create(api)
    for method, path in (("POST", "/templates?name=n"), ("PUT", f"/templates/{created['id']}")):
        refused = await api.ask_with_key(method, path, content="<p>\n{{#each}}", headers=HTML)
        assert error_of(refused, 400).startswith("html: line 2, column 1: ")
    bad = A_PUSH | {"data": {"k": "{{"}}
    refused = await api.ask_with_key("POST", "/push-templates", json=bad)
    assert error_of(refused, 400).startswith("data.k: line 1, column 1: ")


@pytest.mark.parametrize(
    ("noun", "changes", "field"),
    [
        ("/templates", {"name": None}, "name"),
        ("/templates", {"name": ""}, "name"),
        ("/templates", {"html": None}, "text"),
        ("/templates", {"body": "x"}, "body"),
        ("/templates", {"data": {}}, "data"),
        ("/templates", {"projectId": "shop"}, "projectId"),
        ("/templates", {"html": "x" * 262_145}, "html"),
        ("/message-templates", {"name": None}, "name"),
        ("/message-templates", {"name": "a\nb"}, "name"),
        ("/message-templates", {"body": None}, "body"),
        ("/message-templates", {"body": ""}, "body"),
        ("/message-templates", {"body": "a\0b"}, "body"),
        ("/message-templates", {"subject": "x"}, "subject"),
        ("/push-templates", {"name": None}, "name"),
        ("/push-templates", {"title": None}, "title"),
        ("/push-templates", {"body": None}, "body"),
        ("/push-templates", {"data": {"a": 1}}, "data.a"),
        ("/push-templates", {"data": []}, "data"),
        ("/push-templates", {"data": {str(n): "x" for n in range(101)}}, "data"),
        ("/push-templates", {"text": "x"}, "text"),
    ],
)
async def test_a_bad_body_names_the_field(api, noun, changes, field):
    bodies = {
        "/templates": {"name": "n", "html": "x"},
        "/message-templates": A_MESSAGE,
        "/push-templates": A_PUSH,
    }
    body = {key: value for key, value in (bodies[noun] | changes).items() if value is not None}

    assert error_of(await api.ask_with_key("POST", noun, json=body), 400).startswith(f"{field}: ")
    assert await api.gateway.pool.fetchval("SELECT count(*) FROM templates") == 0


@pytest.mark.parametrize(
    ("query", "headers", "content", "status", "text"),
    [
        ("?name=n", HTML, b"", 400, "html: "),
        ("", HTML, b"<p>", 400, "name: is required"),
        ("?name=n", HTML, b"\xff", 400, "UTF-8"),
        ("?name=n", HTML, b"a\0b", 400, "html: "),
        ("?name=n", HTML, b"x" * 524_289, 413, "bytes"),
        ("?name=n", HTML | {"content-encoding": "gzip"}, b"x", 400, "Compressed"),
        ("?name=n", {}, b"<p>", 400, "Content-Type"),
        ("?name=n", {"content-type": "application/x-www-form-urlencoded"}, b"<p>", 400, "Content-Type"),
        ("?name=n", {"content-type": "application/json"}, b"<p>", 400, "JSON"),
        ("?name=n", {"content-type": "application/json"}, b'{"name": "m", "html": "x"}', 400, "name: "),
        ("?name=n&subject=a%0Ab", HTML, b"{{", 400, "line 1, column 1"),
    ],
)
async def test_a_bad_html_body_is_refused(api, query, headers, content, status, text):
    answer = await api.ask_with_key("POST", f"/templates{query}", headers=headers, content=content)

    assert text in error_of(answer, status)
    assert await api.gateway.pool.fetchval("SELECT count(*) FROM templates") == 0


async def test_a_preview_takes_no_html(api):
    answer = await api.ask_with_key("POST", "/templates/preview", headers=HTML, content="<p>")

    assert "JSON" in error_of(answer, 400)


@pytest.mark.parametrize("noun", NOUNS)
async def test_the_last_content_of_a_template_is_not_removed(api, noun):
    created = await create(api, noun)
    nothing = {
        "/templates": ({"html": None}, "text"),
        "/message-templates": ({"body": None}, "body"),
        "/push-templates": ({"title": None, "body": None, "data": None}, "body"),
    }
    body, field = nothing[noun]

    refused = await api.ask_with_key("PUT", f"{noun}/{created['id']}", json=body)

    assert error_of(refused, 400).startswith(f"{field}: is required")


@pytest.mark.parametrize("noun", NOUNS)
async def test_a_template_of_another_project_is_unknown(api, noun):
    created = await create(api, noun)
    one = f"{noun}/{created['id']}"
    stranger = await a_person(api.gateway, "stranger@example.com", own="owner")
    own = await api.gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'own'")
    other_key = await api.gateway.new_project("third")
    preview = {"templateId": created["id"], "variables": {}}

    for answer in (
        await stranger.ask_project_api("GET", one),
        await stranger.ask_project_api("GET", one, project_id=own),
        await stranger.ask_project_api("PUT", one, json={"name": "x"}),
        await stranger.ask_project_api("DELETE", one),
        await stranger.ask_project_api("GET", variables_path(noun, created["id"])),
        await stranger.ask_project_api("POST", f"{noun}/preview", json=preview | {"projectId": str(own)}),
        await api.ask_with_key("GET", one, key=other_key),
        await api.ask_with_key("PUT", one, key=other_key, json={"name": "x"}),
        await api.ask_with_key("DELETE", one, key=other_key),
        await api.ask_with_key("POST", f"{noun}/preview", key=other_key, json=preview),
        await api.ask("GET", f"{noun}/{uuid4()}"),
        await api.ask("GET", f"{noun}/no-id"),
    ):
        assert error_of(answer, 404, "Template not found") == "Template not found"
    error_of(await stranger.ask_project_api("GET", one, project_id=api.project_id), 404)
    error_of(await stranger.ask_project_api("GET", noun, project_id=api.project_id), 404)
    error_of(await stranger.ask_project_api("GET", f"{noun}/project/{api.project_id}"), 404)
    assert (await stranger.ask_project_api("GET", noun)).json()["data"] == []
    assert (await api.ask("GET", one)).json()["name"] == created["name"]


@pytest.mark.parametrize("noun", NOUNS)
async def test_a_viewer_reads_no_templates(api, noun):
    created = await create(api, noun)
    viewer = await api.a_member("viewer@example.com", "viewer")

    for answer in (
        await viewer.ask_project_api("GET", f"{noun}/{created['id']}"),
        await viewer.ask_project_api("GET", noun, project_id=api.project_id),
        await viewer.ask_project_api("GET", f"{noun}/project/{api.project_id}"),
        await viewer.ask_project_api("PUT", f"{noun}/{created['id']}", json={"name": "x"}),
        await viewer.ask_project_api("DELETE", f"{noun}/{created['id']}"),
    ):
        error_of(answer, 403, "Forbidden")
    assert (await viewer.ask_project_api("GET", noun)).json()["data"] == []


async def test_a_bomb_is_refused_in_a_preview(api):
    loop = "{{#each a}}{{#each @root.a}}{{#each @root.a}}x{{/each}}{{/each}}{{/each}}"
    created = await create(api, html=loop)
    body = {"templateId": created["id"], "variables": {"a": list(range(400))}}

    assert error_of(await api.ask_with_key("POST", "/templates/preview", json=body), 400).startswith("variables: html")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "templateId"),
        ({"templateId": "x"}, "templateId"),
        ({"templateId": 7}, "templateId"),
        ({"templateId": str(uuid4()), "variables": []}, "variables"),
        ({"templateId": str(uuid4()), "other": 1}, "other"),
    ],
)
@pytest.mark.parametrize("noun", NOUNS)
async def test_a_bad_preview_names_the_field(api, noun, body, field):
    assert error_of(await api.ask_with_key("POST", f"{noun}/preview", json=body), 400).startswith(f"{field}: ")


async def test_changes_through_both_apis_are_in_one_audit_log(api):
    created = await create(api, "/message-templates")
    await api.ask("PUT", f"/message-templates/{created['id']}", json={"body": "new"})
    await api.ask("DELETE", f"/message-templates/{created['id']}")

    entries = await api.gateway.pool.fetch(
        "SELECT action, actor_kind, object_id FROM audit_log WHERE noun = 'template' ORDER BY id"
    )

    assert [entry["action"] for entry in entries] == ["created", "updated", "deleted"]
    assert {(entry["actor_kind"], entry["object_id"]) for entry in entries} == {
        ("user", encode_id("tpl", UUID(created["id"])))
    }
