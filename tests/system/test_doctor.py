"""`sluice doctor` on the running system: everything is in order, and each fault is named with what to do."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import pytest
import yaml

from sluice.model import ids
from sluice.model.message import Channel
from sluice.providers.adapters.resend import RESEND, ResendCredentials
from sluice.providers.samples import SAMPLE_HEADER, SampleAnswer, SampleResult
from sluice.runtime.key_file import ensure_key_file
from sluice.runtime.paths import deploy_dir
from tests.certificates import Authority
from tests.polling import wait_until
from tests.proxy import forward, proxy

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_OURS = re.compile(r"receipts of [a-z]+-[0-9a-f]{8} ")  # names with the random part of these tests
OTHER_SECRET = "whsec_" + "QUJD" * 8


class Doctor:
    """Runs the command on the system, with the variables of one test."""

    def __init__(self, system):
        self.system = system

    async def __call__(self, *words, **variables):
        environment = {**os.environ, **self.system.environment, **variables}
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "sluice_cli.main", "doctor", "--json", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.stderr == ""
        report = json.loads(done.stdout)
        assert done.returncode == (not report["ok"])
        return report["findings"]


@pytest.fixture
def doctor(system):
    return Doctor(system)


def failures(findings):
    """The failures as lines, without those of accounts that other tests have made."""
    failed = [one for one in findings if one["level"] == "fail"]
    ours = [one for one in failed if not one["check"].startswith("receipts of ") or _OURS.search(one["check"])]
    return [f"{one['check']}: {one['text']} -> {one['action']}" for one in ours]


def about(findings, check):
    return [(one["level"], one["text"]) for one in findings if one["check"] == check]


@pytest.fixture
async def resend(testbed):
    """A provider with receipts; returns what `doctor` calls them."""
    name = f"resend-{uuid4().hex[:8]}"
    credentials = {"apiKey": "re_1", "webhookSecret": SECRET, "baseUrl": "http://127.0.0.1:1"}
    provider_id = await testbed.add_provider(name, credentials, package="provider-resend", channel=Channel.EMAIL)
    await known_to_the_gateway(testbed, provider_id)
    yield provider_id, f"receipts of {name} (provider-resend)"
    await testbed.db.execute("UPDATE providers SET enabled = false WHERE id = $1", provider_id)


async def known_to_the_gateway(testbed, provider_id):
    path = f"/v1/receipts/{ids.encode_id('prv', provider_id)}"
    await wait_until(lambda: _answers(testbed.api, path))


async def _answers(api, path):
    answer = await api.post(path, content=b"{}", headers={SAMPLE_HEADER: "1"})
    return SampleAnswer.model_validate_json(answer.content).result is SampleResult.REFUSED


async def test_a_system_in_order_has_no_failure(doctor, resend):
    findings = await doctor()

    assert failures(findings) == []
    checks = {one["check"] for one in findings}
    assert checks >= {
        "settings",
        "encryption key",
        "disk",
        "processes",
        "postgres",
        "clock",
        "schema",
        "redis",
        "kafka",
    }
    assert checks >= {"topics", "partitions", "certificates", "public address"}
    assert about(findings, resend[1]) == [
        ("ok", "a sample with its signature is believed, one that is tampered or stale is not")
    ]


async def test_faults_of_the_configuration_are_named_each_in_one_line(doctor, resend, system, tmp_path):
    folder, key = tmp_path / "deploy", tmp_path / "credentials.key"
    shutil.copytree(deploy_dir(), folder)
    topics = yaml.safe_load((folder / "topics.yml").read_text())
    topics["topics"] |= {"deliveries.sms": {"partitions": 12}, "deliveries.fax": {}}
    (folder / "topics.yml").write_text(yaml.safe_dump(topics))
    pending = f"{len(list((folder / 'migrations').glob('*.sql'))) + 1:04}_more.sql"
    (folder / "migrations" / pending).write_text("SELECT 1;")
    shutil.copy(system.environment["SLUICE_ENCRYPTION_KEY_FILE"], key)
    key.chmod(0o644)

    findings = await doctor(
        "--no-samples",
        SLUICE_PROVIDER_CONCURENCY="5",
        SLUICE_REQUEUE_AFTER="soon",
        SLUICE_DEPLOY_DIR=str(folder),
        SLUICE_ENCRYPTION_KEY_FILE=str(key),
    )

    misspelt, invalid, *others = failures(findings)
    assert misspelt == (
        "settings: SLUICE_PROVIDER_CONCURENCY in the environment of this command is no setting and has no effect"
        " -> rename it to SLUICE_PROVIDER_CONCURRENCY"
    )
    assert invalid.startswith("settings: SLUICE_REQUEUE_AFTER: ")
    assert others[:4] == [
        f"encryption key: key file {key} may be read by others (mode 644) -> run chmod 600 {key}",
        f"schema: pending migrations: {pending} -> run `sluice migrate`",
        "topics: deliveries.fax is missing -> run `sluice create-topics`",
        "topics: deliveries.sms has 8 partitions, deploy/topics.yml has 12 -> run `sluice create-topics`",
    ]


async def test_stopped_services_are_named_with_their_command(doctor, resend, testbed, tmp_path):
    other = tmp_path / "other.key"
    ensure_key_file(other)
    await testbed.run_command("stop", "redis")
    try:
        findings = await doctor("--no-samples", SLUICE_ENCRYPTION_KEY_FILE=str(other))
    finally:
        await testbed.run_command("start", "redis")

    stopped, unreachable, key = failures(findings)
    assert stopped == "processes: redis is stopped -> `sluice start redis`"
    assert unreachable.startswith("redis: Redis: ")
    assert unreachable.endswith("-> `sluice start redis`, or look at `sluice logs redis`")
    assert "providers cannot be used" in key
    assert key.endswith("restore the key that encrypted them, or enter their credentials again")


async def test_without_postgresql_and_kafka_the_other_checks_are_made(system):
    away = {
        "SLUICE_POSTGRES_DSN": "postgresql://sluice_operator@127.0.0.1:1/sluice",
        "SLUICE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }
    command = [sys.executable, "-m", "sluice_cli.main", "doctor"]

    done = await asyncio.to_thread(
        subprocess.run,
        command,
        env={**os.environ, **system.environment, **away},
        capture_output=True,
        text=True,
        check=False,
    )

    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert all(line.startswith(("ok    ", "warn  ", "FAIL  ")) for line in lines)
    assert [line.partition(":")[0] for line in lines if line.startswith("FAIL")] == ["FAIL  postgres", "FAIL  kafka"]
    assert "ok    redis: Redis answers" in lines


async def test_a_wrong_public_address_and_an_expired_certificate_are_named(doctor, system, tmp_path):
    pair = Authority(tmp_path).issue("expired", "127.0.0.1", expires_in=timedelta(hours=-1))
    with proxy(partial(forward, system.addresses["gateway"]), tls=pair) as place:
        findings = await doctor(SLUICE_PUBLIC_URL=f"https://{place}", SLUICE_SMS_LINK_CA_FILE=str(pair[0]))

    file, server, address = failures(findings)
    assert file.startswith(f"certificates: CN=expired of {pair[0]} (SLUICE_SMS_LINK_CA_FILE) expired on ")
    assert server.startswith(f"certificates: CN=expired of the server {place} (SLUICE_PUBLIC_URL) expired on ")
    assert address.startswith(f"public address: host: the certificate of {place} is not valid: ")


async def test_a_wrong_and_a_missing_webhook_secret_are_named(doctor, testbed, resend):
    provider_id, check = resend
    name = f"resend-{uuid4().hex[:8]}"
    missing = await testbed.add_provider(
        name, {"apiKey": "re_1", "baseUrl": "http://127.0.0.1:1"}, package="provider-resend"
    )
    other = ResendCredentials(apiKey="re_1", webhookSecret=OTHER_SECRET)
    signed = RESEND.sample("https://x", other, datetime.now(UTC))
    path = f"/v1/receipts/{ids.encode_id('prv', provider_id)}"
    for _ in range(3):
        assert (await testbed.api.post(path, content=signed.body, headers=dict(signed.headers))).status_code == 401
    await wait_until(lambda: refusals(testbed, provider_id, at_least=3), within=20)

    findings = await doctor()

    await testbed.db.execute("UPDATE providers SET enabled = false WHERE id = $1", missing)
    wrong, absent = failures(findings)
    assert wrong.startswith(f"{check}: secret: ")
    assert wrong.endswith("-> compare the webhook secret with the provider's; forgeries of others look the same")
    assert absent == (
        f"receipts of {name} (provider-resend): secret: no secret is configured, so nothing can be verified: "
        "every receipt is refused -> enter the webhook secret or token of Resend in its credentials"
    )


async def refusals(testbed, provider_id, *, at_least):
    query = "SELECT refused_count FROM provider_receipts WHERE provider_id = $1"
    return (await testbed.db.fetchval(query, provider_id) or 0) >= at_least
