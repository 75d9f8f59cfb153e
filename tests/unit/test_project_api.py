"""The project API answers in MessagePipe's envelope, whatever the route raises."""

import httpx
import pytest
from fastapi import APIRouter

from gateway.apis.project_api import create_project_api
from gateway.errors import IdempotencyConflict, Unavailable

router = APIRouter()


@router.get("/items")
async def list_items(page: int) -> dict[str, int]:
    return {"page": page}


@router.get("/conflict")
async def conflict() -> None:
    raise IdempotencyConflict("The key was used.")


@router.get("/unavailable")
async def unavailable() -> None:
    raise Unavailable("Retry later.")


@router.get("/bug")
async def bug() -> None:
    raise RuntimeError("canary of the inside")


@pytest.fixture
async def client():
    app = create_project_api()
    app.include_router(router)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "error", "message"),
    [
        ("GET", "/nothing", 404, "Not Found", "Not found"),
        ("PUT", "/items", 405, "Method Not Allowed", "Method not allowed"),
        ("GET", "/items", 400, "Bad Request", "page: is required"),
        ("GET", "/items?page=one", 400, "Bad Request", "page: "),
        ("GET", "/conflict", 409, "Conflict", "The key was used."),
        ("GET", "/unavailable", 503, "Service Unavailable", "Retry later."),
        ("GET", "/bug", 500, "Internal Server Error", "Internal server error"),
    ],
)
async def test_every_error_has_the_envelope(client, method, path, status, error, message):
    answer = await client.request(method, path)
    body = answer.json()

    assert (answer.status_code, body["error"], body["statusCode"]) == (status, error, status)
    assert set(body) == {"message", "error", "statusCode"}
    assert body["message"].startswith(message)


async def test_a_valid_request_is_answered_by_its_route(client):
    assert (await client.get("/items?page=2")).json() == {"page": 2}


async def test_only_a_request_that_may_be_repeated_gets_retry_after(client):
    found = [(await client.get(path)).headers.get("retry-after") for path in ("/conflict", "/unavailable")]

    assert found == [None, "1"]
