"""Every route of the gateway asks for a principal with a permission, or is public for a reason."""

import httpx
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from gateway import dependencies, project_dependencies
from gateway.apis.rendering import is_v1
from gateway.asgi import Apis
from gateway.auth.permissions import Permission
from gateway.kit.json_route import JsonRoute
from gateway.messages import v1 as messages
from gateway.receipts.endpoint import ReceiptEndpoint
from gateway.services import Services

PUBLIC = {
    "/errors": "documentation; `docs` in every error points to it",
    "/openapi.json": "documentation",
    "/project.openapi.json": "documentation",
    "/v1/receipts/{provider}": "authenticated by the provider's signature",
    "/unsubscribe/{token}": "authenticated by the encrypted token of a mail",
    "/v1/auth/login": "authenticates by address and password; throttled",
    "/v1/auth/setup": "authenticates by the token of a set-up link; throttled",
    "/v1/auth/password/forgot": "sends mail to the owner of an account, the answer says nothing; throttled",
    "/v1/auth/password/reset": "authenticates by the token of a mail; throttled",
    "/v1/auth/invitations/accept": "authenticates by the token of an invitation; throttled",
    "/auth/signup": "creates an account without a role; throttled, and closed by a setting",
    "/auth/signin": "authenticates by address and password; throttled",
    "/auth/refresh": "authenticates by the refresh token, which serves once; throttled",
}

PERSON = "person"

AUTHORIZERS = {dependencies.authorize, dependencies.authorize_in_path} | project_dependencies.AUTHORIZERS
PERSONS = {dependencies.authenticate_person, project_dependencies.authenticate_person}


def create_apis() -> Apis:
    receipts = ReceiptEndpoint(None, None, None, None, public_url=None, links={})  # type: ignore[arg-type]
    services = Services(**dict.fromkeys(Services.__dataclass_fields__) | {"receipts": receipts})  # type: ignore[arg-type]
    return Apis(services)


def routes() -> list[RouteContext]:
    apis = create_apis()
    found = [*apis.v1.routes, *apis.project_api.routes, *apis.pages.routes, *messages.documented.routes]
    return list(iter_route_contexts(found))


def permissions(dependant: Dependant) -> set[str]:
    """The permissions that the route's dependencies name; ``PERSON`` for one that acts on a person's own account."""
    own = set(dependant.own_oauth_scopes or ()) if dependant.call in AUTHORIZERS else set()
    if dependant.call in PERSONS:
        own = {PERSON}
    return own.union(*(permissions(inner) for inner in dependant.dependencies))


def needed_permissions(*, v1: bool) -> dict[str, set[str]]:
    """What each documented operation of an API needs, by its id."""
    return {
        route.original_route.name: permissions(route.dependant)
        for route in routes()
        if isinstance(route.original_route, APIRoute) and route.original_route.include_in_schema
        if is_v1(route.path or "") is v1
    }


def needed() -> list[tuple[str | None, set[str]]]:
    """Path and permissions of every route."""
    return [
        (route.path, permissions(route.dependant) if isinstance(route.original_route, APIRoute) else set())
        for route in routes()
    ]


def test_every_route_has_a_principal_or_is_public() -> None:
    without = {path for path, permissions in needed() if not permissions}

    assert without == set(PUBLIC)


def test_every_permission_of_a_route_exists() -> None:
    named = {permission for _, permissions in needed() for permission in permissions}

    assert named
    assert named <= {*Permission, PERSON}


def test_every_route_with_a_body_bounds_it() -> None:
    """The routes of the hot path are documentation: its own code reads the body."""
    documented = {route.path for route in messages.documented.routes if isinstance(route, APIRoute)}
    unbounded = {
        route.path
        for route in routes()
        if isinstance(route.original_route, APIRoute)
        and route.original_route.body_field is not None
        and not isinstance(route.original_route, JsonRoute)
    }

    assert unbounded == documented


async def test_the_apis_are_built_before_the_first_request(monkeypatch):
    """The framework does it at the first request, in one piece of 0.3 s: every other request would wait for it."""
    apis = create_apis()

    await apis.prepare()

    def build(*_args, **_options):
        raise AssertionError("built again")

    monkeypatch.setattr(FastAPI, "build_middleware_stack", build)
    monkeypatch.setattr("fastapi.routing._IncludedRouter._build_effective_context", build)
    for app in (apis.v1, apis.project_api):
        answer = await httpx.AsyncClient(transport=httpx.ASGITransport(app)).get("http://gateway/-")
        assert answer.status_code == 404
