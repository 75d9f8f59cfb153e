"""Every request example of the documents about providers, webhooks, domains, projects and MessagePipe, as written.

Each scenario is a document, its examples in order. The host, the keys and the ids are replaced: ``{name}`` is what an
earlier answer has called so. A scenario is pending, and named so, until the OpenAPI document has all its operations.
The examples about messages are in ``test_seed_examples``; those of the project API that wait for a worker are in
``project_api/test_sending`` and ``project_api/test_delivery_log``.
"""

import re
from dataclasses import dataclass, field

import pytest

from sluice.runtime.clock import utc_now
from sluice.store import users
from sluice_simulator.accounts import rsa_key
from tests.services.openapi_check import documented
from tests.services.people import PASSWORD, a_person

ANY = object()
TEXT = object()


@dataclass(frozen=True)
class Step:
    """A request of a document. ``answer``: the fields that the document shows; ``names``: fields to remember."""

    method: str
    path: str
    body: object = None
    answer: object = ANY
    status: tuple[int, ...] = (200, 201)
    names: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


KEY = {"x-sendpipe-key": "{key}"}
SESSION = {"authorization": "Bearer {token}"}
JWT = {"authorization": "Bearer {accessToken}"}


def keyed(method, path, body=None, **options):
    return Step(method, path, body, headers=KEY, **options)


def provider(package, name, credentials):
    return {"packageName": package, "name": name, "credentials": credentials}


# The document leaves the rest of both keys out.
SES = {"accessKeyId": "AKIA" + "0" * 16, "secretAccessKey": "wJal" + "0" * 36, "region": "us-east-1"}
BACKUP = provider("provider-resend", "Backup", {"apiKey": "re_123"})
TERTIARY = provider("provider-mailgun", "Tertiary", {"apiKey": "key-1", "domain": "mg.yourapp.com"})

SENDPIPE = {
    "providers": [
        keyed(
            "POST",
            "/v1/providers",
            provider("provider-ses", "Production SES", SES),
            answer={"id": TEXT, "packageName": "provider-ses", "name": "Production SES", "channel": "email"},
            names={"prv_primary": "id"},
        ),
        keyed("POST", "/v1/providers", BACKUP, names={"prv_backup": "id"}),
        keyed("POST", "/v1/providers", TERTIARY, names={"prv_tertiary": "id"}),
        keyed(
            "POST",
            "/v1/providers/reorder",
            {"channel": "email", "providerIds": ["{prv_primary}", "{prv_backup}", "{prv_tertiary}"]},
        ),
        keyed(
            "GET",
            "/v1/providers",
            answer={"data": [{"id": "{prv_primary}"}, {"id": "{prv_backup}"}, {"id": "{prv_tertiary}"}]},
        ),
        keyed("PATCH", "/v1/providers/{prv_primary}", {"name": "SES", "enabled": False}, answer={"enabled": False}),
        keyed("GET", "/v1/packages", answer={"data": ANY}),
        keyed("GET", "/v1/packages/provider-ses", answer={"name": "provider-ses"}),
        keyed("DELETE", "/v1/providers/{prv_primary}"),
    ],
    "webhooks": [
        keyed(
            "POST",
            "/v1/webhooks",
            {"url": "https://yourapp.com/webhooks/sendpipe", "events": ["delivered", "bounced", "failed"]},
            answer={"id": TEXT, "secret": TEXT},
            names={"webhook": "id"},
        ),
        keyed("GET", "/v1/webhooks", answer={"data": [{"id": "{webhook}"}]}),
        keyed("POST", "/v1/webhooks/{webhook}/test", status=(200, 201, 202)),
        keyed("DELETE", "/v1/webhooks/{webhook}"),
    ],
    "domains": [
        keyed("POST", "/v1/domains", {"domain": "yourapp.com"}, answer={"id": TEXT}, names={"domain": "id"}),
        keyed("GET", "/v1/domains", answer={"data": [{"id": "{domain}"}]}),
        keyed("GET", "/v1/domains/{domain}/verify", answer={"id": "{domain}"}),
        keyed("DELETE", "/v1/domains/{domain}"),
    ],
    "people": [
        Step(
            "POST",
            "/v1/auth/login",
            {"email": "ada@example.com", "password": PASSWORD},
            answer={"token": TEXT},
            names={"token": "token"},
        ),
        Step("GET", "/v1/auth/me", headers=SESSION, answer={"email": "ada@example.com"}),
        Step("POST", "/v1/projects", {"name": "My App"}, headers=SESSION, answer={"slug": "my-app"}),
        Step("GET", "/v1/projects", headers=SESSION),
        Step("GET", "/v1/projects/my-app", headers=SESSION, answer={"name": "My App"}),
        Step("PATCH", "/v1/projects/my-app", {"name": "App"}, headers=SESSION, answer={"name": "App"}),
        Step(
            "POST",
            "/v1/projects/my-app/keys",
            {"name": "backend"},
            headers=SESSION,
            answer={"key": TEXT},
            names={"new_key": "id"},
        ),
        Step("GET", "/v1/projects/my-app/keys", headers=SESSION, answer={"data": [{"id": "{new_key}"}]}),
        Step("DELETE", "/v1/projects/my-app/keys/{new_key}", headers=SESSION),
        Step(
            "POST",
            "/v1/projects/my-app/members",
            {"email": "dev@example.com", "role": "DEVELOPER"},
            headers=SESSION,
            answer={"role": "DEVELOPER"},
            names={"member": "user_id"},
        ),
        Step("GET", "/v1/projects/my-app/members", headers=SESSION, answer={"data": ANY}),
        Step("PATCH", "/v1/projects/my-app/members/{member}", {"role": "VIEWER"}, headers=SESSION),
        Step("DELETE", "/v1/projects/my-app/members/{member}", headers=SESSION),
        Step("DELETE", "/v1/projects/my-app", headers=SESSION),
    ],
}

SIGN_IN = [
    Step(
        "POST",
        "/auth/signup",
        {"email": "john@example.com", "password": PASSWORD, "firstName": "John", "lastName": "Doe"},
    ),
    Step(
        "POST",
        "/auth/signin",
        {"email": "john@example.com", "password": PASSWORD},
        answer={"accessToken": TEXT, "refreshToken": TEXT, "expiresIn": 3600},
        names={"accessToken": "accessToken"},
    ),
    Step("POST", "/projects", {"name": "Nobu"}, headers=JWT, answer={"id": TEXT}, names={"projectId": "id"}),
]


def signed(method, path, body=None, **options):
    return Step(method, path, body, headers=JWT, **options)


SCHEMAS = {
    "email-config": ("sendgrid", "mailgun", "ses", "smtp"),
    "message-config": (
        *("messagepipe", "twilio", "termii", "sns", "infobip", "whatsapp", "whatsapp_twilio", "telegram", "signal"),
    ),
    "push-config": ("fcm",),
}
SMTP = {
    "host": "smtp.gmail.com",
    "port": 587,
    "secure": False,
    "auth": {"user": "your-email@gmail.com", "pass": "your-app-password"},
    "tls": {"rejectUnauthorized": False},
}
FCM = {"projectId": "nobu-1", "clientEmail": "push@nobu-1.iam.gserviceaccount.com", "privateKey": rsa_key()}
PRIORITIES = {"providers": [{"id": f"{{provider-uuid-{number}}}", "priority": number} for number in (1, 2)]}
IN_ORDER = [{"id": f"{{provider-uuid-{number}}}", "priority": number} for number in (1, 2)]
OF_PROJECT = "?projectId={projectId}"
MESSAGEPIPE = {
    "provider schemas": [
        *SIGN_IN,
        *(signed("GET", f"/{group}/provider-schemas") for group in SCHEMAS),
        *(signed("GET", f"/{group}/provider-schemas/{name}") for group, names in SCHEMAS.items() for name in names),
    ],
    "e-mail providers": [
        *SIGN_IN,
        signed(
            "POST",
            f"/email-config{OF_PROJECT}",
            {"senderEmail": "noreply@yourcompany.com", "senderName": "Your Company Name", "enabled": True},
        ),
        signed("GET", f"/email-config{OF_PROJECT}", answer={"senderEmail": "noreply@yourcompany.com"}),
        signed(
            "PUT",
            f"/email-config{OF_PROJECT}",
            {"senderEmail": "hello@yourcompany.com", "senderName": "Updated Company Name", "enabled": True},
            answer={"senderEmail": "hello@yourcompany.com", "senderName": "Updated Company Name", "enabled": True},
        ),
        signed(
            "POST",
            f"/email-config/providers{OF_PROJECT}",
            {
                "provider": "sendgrid",
                "name": "Primary SendGrid",
                "enabled": True,
                "priority": 1,
                "config": {"apiKey": "your-sendgrid-api-key"},
            },
            answer={
                "id": TEXT,
                "provider": "sendgrid",
                "name": "Primary SendGrid",
                "enabled": True,
                "priority": 1,
                "createdAt": TEXT,
            },
            names={"provider-uuid-1": "id"},
        ),
        signed(
            "POST",
            f"/email-config/providers{OF_PROJECT}",
            {
                "provider": "mailgun",
                "name": "Mailgun",
                "enabled": True,
                "priority": 2,
                "config": {"apiKey": "your-mailgun-api-key", "domain": "your-domain.com"},
            },
            names={"provider-uuid-2": "id"},
        ),
        signed(
            "POST",
            f"/email-config/providers{OF_PROJECT}",
            {"provider": "smtp", "name": "SMTP", "enabled": True, "priority": 3, "config": SMTP},
            names={"provider-uuid-3": "id"},
        ),
        signed("GET", f"/email-config/providers{OF_PROJECT}"),
        signed(
            "PUT",
            "/email-config/providers/{provider-uuid-1}",
            {
                "name": "Updated SendGrid Config",
                "enabled": True,
                "priority": 2,
                "config": {"apiKey": "updated-api-key"},
            },
            answer={"id": "{provider-uuid-1}", "name": "Updated SendGrid Config", "enabled": True, "priority": 2},
        ),
        signed(
            "PUT",
            f"/email-config/providers/priorities{OF_PROJECT}",
            {"providers": [{"id": f"{{provider-uuid-{number}}}", "priority": number} for number in (1, 2, 3)]},
        ),
        signed(
            "GET",
            f"/email-config/providers{OF_PROJECT}",
            answer=[{"provider": "sendgrid"}, {"provider": "mailgun"}, {"provider": "smtp"}],
        ),
        signed("DELETE", "/email-config/providers/{provider-uuid-1}"),
    ],
    "message providers": [
        *SIGN_IN,
        signed("POST", f"/message-config{OF_PROJECT}", {"enabled": True}, answer={"enabled": True}),
        *(
            signed(
                "POST",
                f"/message-config/providers{OF_PROJECT}",
                {"provider": "messagepipe", "name": "Built-in", "enabled": True, "priority": 5},
                names={f"provider-uuid-{number}": "id"},
            )
            for number in (1, 2)
        ),
        signed("PUT", f"/message-config/providers/priorities{OF_PROJECT}", PRIORITIES),
        signed("GET", f"/message-config/providers{OF_PROJECT}", answer=IN_ORDER),
    ],
    "push providers": [
        *SIGN_IN,
        signed("POST", f"/push-config{OF_PROJECT}", {"enabled": True}, answer={"enabled": True}),
        *(
            signed(
                "POST",
                f"/push-config/providers{OF_PROJECT}",
                {"provider": "fcm", "name": "FCM", "enabled": True, "priority": 5, "config": FCM},
                names={f"provider-uuid-{number}": "id"},
            )
            for number in (1, 2)
        ),
        signed("PUT", f"/push-config/providers/priorities{OF_PROJECT}", PRIORITIES),
        signed("GET", f"/push-config/providers{OF_PROJECT}", answer=IN_ORDER),
    ],
}
SCENARIOS = [
    pytest.param(api, steps, id=f"{api}: {name}")
    for api, found in (("v1", SENDPIPE), ("project", MESSAGEPIPE))
    for name, steps in found.items()
]


def replaced(value, known):
    """``value`` with what earlier answers have named."""
    if isinstance(value, str):
        return re.sub(r"\{([\w-]+)\}", lambda found: known[found[1]], value)
    if isinstance(value, list):
        return [replaced(each, known) for each in value]
    if isinstance(value, dict):
        return {name: replaced(each, known) for name, each in value.items()}
    return value


def assert_shows(shown, expected, where="answer"):
    """The answer has what the document shows; it may have more fields, but no more elements."""
    if expected is TEXT:
        assert isinstance(shown, str), where
        assert shown, where
    elif isinstance(expected, dict):
        for name, value in expected.items():
            assert name in shown, f"{where}.{name}"
            assert_shows(shown[name], value, f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(shown) == len(expected), where
        for index, value in enumerate(expected):
            assert_shows(shown[index], value, f"{where}.{index}")
    elif expected is not ANY:
        assert shown == expected, where


@pytest.mark.parametrize(("api", "steps"), SCENARIOS)
async def test_the_examples_of_a_document_get_the_documented_answers(gateway, api, steps):
    wanted = dict.fromkeys((one.method, path_of(one)) for one in steps)
    pending = [" ".join(one) for one in wanted if not documented(api, *one)]
    if pending:
        pytest.skip(f"pending: {', '.join(pending)}")
    await a_person(gateway, "ada@example.com", password=PASSWORD, shop="owner")
    await users.create_user(gateway.pool, "dev@example.com", name="Dev", password_hash=None, now=utc_now())
    known = {"key": gateway.key}

    for step in steps:
        answer = await gateway.client.request(
            step.method,
            replaced(step.path, known),
            headers=replaced(step.headers, known),
            **({} if step.body is None else {"json": replaced(step.body, known)}),
        )
        assert answer.status_code in step.status, f"{step.method} {step.path}: {answer.text}"
        if step.answer is not ANY:
            assert_shows(answer.json(), replaced(step.answer, known), f"{step.method} {step.path}")
        known |= {name: answer.json()[field] for name, field in step.names.items()}


def path_of(step):
    return re.sub(r"\{[\w-]+\}", "x", step.path.partition("?")[0])
