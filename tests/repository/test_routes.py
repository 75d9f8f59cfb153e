"""Every route of the gateway asks for a principal with a permission, or is public for a reason."""

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import Route

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


def routes() -> list[Route]:
    receipts = ReceiptEndpoint(None, None, None, None, public_url=None)  # type: ignore[arg-type]
    services = Services(None, None, None, None, receipts, None)  # type: ignore[arg-type]
    apis = Apis(services, lambda: None)
    found = [*apis.v1.routes, *apis.project_api.routes, *apis.ops.routes, *messages.documented.routes]
    assert all(isinstance(route, Route) for route in found)
    return found  # type: ignore[return-value]


def permissions(dependant: Dependant) -> set[str]:
    """The permissions that the route's :func:`authorize` dependencies name."""
    own = set(dependant.own_oauth_scopes or ()) if dependant.call is authorize else set()
    return own.union(*(permissions(inner) for inner in dependant.dependencies))


def test_every_route_has_a_principal_or_is_public() -> None:
    without = {route.path for route in routes() if not (isinstance(route, APIRoute) and permissions(route.dependant))}

    assert without == set(PUBLIC)


def test_every_permission_of_a_route_exists() -> None:
    named = [permissions(route.dependant) for route in routes() if isinstance(route, APIRoute)]

    assert named
    assert set().union(*named) <= set(Permission)
