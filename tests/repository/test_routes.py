"""Every route of the gateway asks for a principal with a permission, or is public for a reason."""

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from gateway.asgi import Apis
from gateway.auth.permissions import Permission
from gateway.dependencies import authorize
from gateway.messages import v1 as messages
from gateway.receipts.endpoint import ReceiptEndpoint
from gateway.services import Services

PUBLIC = {
    "/healthz": "the process answers; nothing of a project",
    "/readyz": "whether the gateway accepts work; nothing of a project",
    "/metrics": "no metric has an identifier as a label",
    "/errors": "documentation; `docs` in every error points to it",
    "/openapi.json": "documentation",
    "/project.openapi.json": "documentation",
    "/v1/receipts/{provider}": "authenticated by the provider's signature",
}


def routes() -> list[RouteContext]:
    receipts = ReceiptEndpoint(None, None, None, None, public_url=None, links={})  # type: ignore[arg-type]
    services = Services(None, None, None, None, receipts, None)  # type: ignore[arg-type]
    apis = Apis(services, {})
    found = [*apis.v1.routes, *apis.project_api.routes, *apis.ops.routes, *messages.documented.routes]
    return list(iter_route_contexts(found))


def permissions(dependant: Dependant) -> set[str]:
    """The permissions that the route's :func:`authorize` dependencies name."""
    own = set(dependant.own_oauth_scopes or ()) if dependant.call is authorize else set()
    return own.union(*(permissions(inner) for inner in dependant.dependencies))


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
    assert named <= set(Permission)
