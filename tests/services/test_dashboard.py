"""The files of the dashboard as the gateway serves them."""

import base64
import gzip
import hashlib
import re

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from gateway.apis.project_api import create_project_api
from gateway.apis.v1 import create_v1_api
from gateway.dashboard.files import NONCE, Dashboard

PAGE = f'<!doctype html><meta property="csp-nonce" nonce="{NONCE}"><script src="/assets/index-1.js"></script>'
SCRIPT = "console.log(1)\n" * 200


def write_build(directory, page=PAGE, script="index-1.js"):
    (directory / "assets").mkdir(parents=True, exist_ok=True)
    (directory / "assets" / script).write_text(SCRIPT)
    (directory / "assets" / f"{script}.gz").write_bytes(gzip.compress(SCRIPT.encode()))
    (directory / "assets/icon-1.svg").write_text("<svg/>")
    (directory / "index.html").write_text(page)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "dist"


@pytest.fixture
async def client(directory):
    transport = httpx.ASGITransport(app=Dashboard(directory))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


async def test_until_a_build_exists_a_page_says_so_and_reloads_itself(client, directory):
    before = await client.get("/")
    write_build(directory)
    after = await client.get("/")

    assert (before.status_code, before.headers["retry-after"]) == (503, "3")
    assert 'http-equiv="refresh"' in before.text
    assert before.headers["cache-control"] == "no-store"
    assert (after.status_code, after.headers["content-type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize("path", ["/", "/login", "/setup", "/p/web-shop", "/p/web-shop/messages/msg_1", "/p/a/b.html"])
async def test_every_view_has_the_page(client, directory, path):
    write_build(directory)

    answer = await client.get(path)

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.startswith("<!doctype html>")


async def test_each_response_has_a_nonce_of_its_own_in_the_page_and_in_the_policy(client, directory):
    write_build(directory)

    answers = [await client.get("/") for _ in range(2)]

    nonces = [re.search(r'nonce="([\w-]+)"', answer.text)[1] for answer in answers]
    assert len(set(nonces)) == 2
    for answer, nonce in zip(answers, nonces, strict=True):
        policy = answer.headers["content-security-policy"]
        assert f"style-src 'self' 'nonce-{nonce}';" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert {"default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"} <= set(policy.split("; "))


async def test_a_file_with_its_hash_in_the_name_is_kept_for_a_year(client, directory):
    write_build(directory)

    answer = await client.get("/assets/index-1.js")

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text == SCRIPT


@pytest.mark.parametrize(("name", "kind"), [("index-1.js", "text/javascript"), ("icon-1.svg", "image/svg+xml")])
async def test_without_gzip_a_file_comes_as_it_is(client, directory, name, kind):
    write_build(directory)

    answer = await client.get(f"/assets/{name}", headers={"accept-encoding": "identity"})

    assert answer.headers["content-type"].partition(";")[0] == kind
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["unknown.js", "%2e%2e/index.html", "index-1.js.gz", ""])
async def test_nothing_but_the_files_of_the_build_is_served(client, directory, name):
    write_build(directory)
    await client.get("/")

    assert (await client.get(f"/assets/{name}")).status_code == 404


async def test_a_tab_of_the_build_before_still_loads_its_files(client, directory):
    write_build(directory)
    await client.get("/")
    (directory / "assets/index-1.js").unlink()
    (directory / "index.html").unlink()
    write_build(directory, PAGE.replace("index-1", "index-2"), "index-2.js")

    assert "index-2.js" in (await client.get("/")).text
    assert (await client.get("/assets/index-2.js")).status_code == 200
    assert (await client.get("/assets/index-1.js")).text == SCRIPT


@pytest.mark.parametrize("path", ["/", "/p/web-shop", "/assets/index-1.js"])
async def test_it_is_only_read(client, directory, path):
    write_build(directory)

    answer = await client.post(path)

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path", ["/providers", "/templates", "/projects", "/auth/signin", "/v1/providers", "/errors", "/pages"]
)
def test_no_path_of_an_api_belongs_to_it(path):
    assert not Dashboard.serves(path)


def test_no_route_of_an_api_is_hidden_by_it():
    apps = (create_v1_api(), create_project_api())
    paths = [route.path for app in apps for route in iter_route_contexts(app.routes)]

    assert [path for path in paths if Dashboard.serves(path)] == []


async def test_the_frame_of_previews_has_no_origin_loads_nothing_and_runs_its_own_script_only(client):
    answer = await client.get("/preview")

    script = re.search(r"<script>(.*)</script>", answer.text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"].split("; ")
    assert answer.status_code == 200
    assert policy[:3] == ["sandbox allow-scripts", "default-src 'none'", f"script-src 'sha256-{digest}'"]
    assert "frame-ancestors 'self'" in policy
    assert Dashboard.serves("/preview")
    assert not Dashboard.serves("/preview/other")
