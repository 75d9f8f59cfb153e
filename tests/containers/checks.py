"""What is checked of the running set: docker-compose.yml unchanged, with passwords of every kind of character."""

import base64
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sluice_launcher.roles import ROLES, SERVICES
from tests.check_results import result_of
from tests.containers.engine import Engine, run
from tests.containers.images import BROKEN, NEXT, SLUICE
from tests.repository.files import ROOT

ROLE_NAMES = tuple(role.name for role in ROLES)
SCALED = {"email-worker": 3, "router": 2, "gateway": 2}
SETS = {
    "host": ("-f", "docker-compose.yml"),
    "laptop": ("-f", "docker-compose.yml", "-f", "docker-compose.laptop.yml"),
}
_PASSWORD = "p@ss/w#rd:%?&"
_UP_TIME = 600.0  # seconds


class Compose:
    """The set of docker-compose.yml as it is on a laptop, with the demo's mailbox."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.passwords = engine.folder / ".env"

    def __call__(
        self, *words: str, image: str = SLUICE, timeout: float = _UP_TIME, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of Compose.

        Raises:
            subprocess.CalledProcessError: it fails, unless ``check`` is false; its output is printed.
        """
        environment = {"SLUICE_IMAGE": image, "SLUICE_GATEWAY_PORTS": "8080-8089"}
        command = ["env", *(f"{name}={value}" for name, value in environment.items()), "docker", "compose"]
        files = ("--env-file", str(self.passwords), *SETS["laptop"])
        return run([*command, *files, *words], self.engine.environment, timeout=timeout, check=check)

    def up(self, *words: str, image: str = SLUICE, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Bring the set up and wait until it is healthy."""
        return self("up", "--detach", "--no-build", "--pull", "never", "--wait", *words, image=image, check=check)

    def containers(self) -> list[dict[str, Any]]:
        """What the engine knows of each container of the set."""
        found = self("ps", "--all", "--quiet").stdout.split()
        inspected: list[dict[str, Any]] = json.loads(self.engine.docker("inspect", *found).stdout) if found else []
        return inspected

    def of(self, service: str) -> list[dict[str, Any]]:
        """The containers of one service."""
        label = "com.docker.compose.service"
        return [each for each in self.containers() if each["Config"]["Labels"][label] == service]


def write_passwords(engine: Engine) -> None:
    """Random passwords by the project's own script; those of three logins have characters that an address has not."""
    folder = engine.folder / "deploy"
    folder.mkdir()
    shutil.copy(ROOT / "deploy/passwords.sh", folder)
    subprocess.run(["sh", folder / "passwords.sh"], check=True, capture_output=True)
    file = engine.folder / ".env"
    text = file.read_text()
    for name in ("POSTGRES_PASSWORD_GATEWAY", "POSTGRES_PASSWORD_OWNER", "REDIS_PASSWORD"):
        text = re.sub(rf"(SLUICE_{name})=.*", rf"\1='{_PASSWORD}'", text)
    file.write_text(text)


def files_are_valid(compose: Compose) -> dict[str, Any]:
    """Both sets are understood, and nothing starts without passwords."""
    for files in SETS.values():
        compose.engine.docker("compose", "--env-file", compose.passwords, *files, "config", "--quiet")
    empty = compose.engine.folder / "empty.env"
    empty.touch()
    without = compose.engine.docker("compose", "--env-file", empty, "config", check=False)
    assert without.returncode != 0
    assert "run sh deploy/passwords.sh" in without.stderr, without.stderr
    return {"without_passwords": "refused"}


def comes_up(compose: Compose) -> dict[str, Any]:
    """Every container is healthy, and the setup has ended without an error."""
    began = time.monotonic()
    compose.up()
    states = {name: [each["State"] for each in compose.of(name)] for name in (*SERVICES, *ROLE_NAMES)}
    assert {name: [state["Health"]["Status"] for state in found] for name, found in states.items()} == {
        name: ["healthy"] for name in states
    }
    assert [each["State"]["ExitCode"] for each in compose.of("setup")] == [0]
    return {"containers": sum(map(len, states.values())), "seconds": round(time.monotonic() - began)}


def is_confined(compose: Compose) -> dict[str, Any]:
    """A role has user 10001, no capability, a root that it cannot write to, and limits."""
    for name in ROLE_NAMES:
        for container in compose.of(name):
            host = container["HostConfig"]
            assert container["Config"]["User"] == "10001:10001"
            assert (host["ReadonlyRootfs"], host["CapDrop"], host["CapAdd"] or []) == (True, ["ALL"], []), name
            assert all((host["Memory"], host["PidsLimit"], host["NanoCpus"])), name
            assert "no-new-privileges:true" in host["SecurityOpt"], name
    written = compose("exec", "-T", "router", "touch", "/app/file", check=False)
    assert "Read-only file system" in written.stderr
    return {"roles": len(ROLE_NAMES)}


def demo_fails_over(compose: Compose) -> dict[str, Any]:
    """The demo's first message takes the second provider, and is in the mailbox."""
    return demo_is_sent(compose, words=("attempt_failed", "sent attempt 2 via mailbox-smtp"))


def demo_is_sent(
    compose: Compose, image: str = SLUICE, *, words: Sequence[str] = ("via mailbox-smtp",)
) -> dict[str, Any]:
    """The demo's message is in the mailbox. Once the first provider is known as broken, it is not tried again."""
    sent = compose("run", "--rm", "-T", "cli", "demo", image=image)
    assert [word for word in words if word not in sent.stdout] == [], sent.stdout
    captured = compose("run", "--rm", "-T", "cli", "captured", image=image)
    assert "you@example.com" in captured.stdout, captured.stdout
    return {"status": "SENT", "mails": captured.stdout.count("mailbox ")}


def commands_know_the_installation(compose: Compose) -> dict[str, Any]:
    """`sluice doctor` logs in at every server; a link of `sluice setup-link` works on the host, or is refused."""
    cli = ("run", "--rm", "-T", "cli")
    findings = json.loads(compose(*cli, "doctor", "--no-samples", "--json", check=False).stdout)["findings"]
    assert [each for each in findings if each["level"] == "fail"] == []
    refused = compose(*cli, "setup-link", check=False)
    assert (refused.returncode, "--anywhere" in refused.stderr) == (1, True), refused.stderr
    address = "http://127.0.0.1:8080"
    link = compose(*cli[:-1], "--env", f"SLUICE_PUBLIC_URL={address}", "cli", "setup-link", "--anywhere").stdout.strip()
    page, _, token = link.partition("#")
    assert page == f"{address}/setup"
    script = (
        "import json, sys, urllib.request as r;"
        f"q = r.Request('{address}/v1/auth/setup', json.dumps({{'token': sys.stdin.read()}}).encode());"
        "q.add_header('content-type', 'application/json');"
        "print(r.urlopen(q, timeout=10).status)"
    )
    command = [*compose.engine.inside(), sys.executable, "-c", script]
    answer = subprocess.run(command, input=token, capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == "200", answer.stderr
    return {"findings": len(findings)}


def verifies(compose: Compose) -> dict[str, Any]:
    """`sluice verify` finds nothing."""
    compose("run", "--rm", "-T", "cli", "verify")
    return {"violations": 0}


def scales(compose: Compose) -> dict[str, Any]:
    """Several replicas of a role run beside one another, and the partitions are divided among them."""
    compose.up(*(word for name, number in SCALED.items() for word in ("--scale", f"{name}={number}")))
    running = {name: len([each for each in compose.of(name) if each["State"]["Running"]]) for name in SCALED}
    assert running == SCALED
    deadline = time.monotonic() + 60
    while sorted(shares := [partitions(compose, each) for each in compose.of("email-worker")]) != [2, 3, 3]:
        assert time.monotonic() < deadline, shares
        time.sleep(1)
    ports = sorted(port for each in compose.of("gateway") for port in published(each))
    assert all(answers(compose, port) for port in ports)
    assert len(ports) == SCALED["gateway"]
    result = {"replicas": running, "partitions": sorted(shares), "gateway_ports": ports}
    compose.up(*(word for name in SCALED for word in ("--scale", f"{name}=1")))
    assert {name: len(compose.of(name)) for name in SCALED} == dict.fromkeys(SCALED, 1)
    return result


def partitions(compose: Compose, container: dict[str, Any]) -> int:
    """The partitions of its channel that a worker has, from its metrics."""
    script = (
        "import os, urllib.request as r;"
        "print(r.urlopen(f'http://127.0.0.1:{os.environ[\"SLUICE_PORT\"]}/metrics').read().decode())"
    )
    page = compose.engine.docker("exec", container["Id"], "python", "-c", script).stdout
    found = re.search(r'^sluice_consumer_assigned_partitions\{topic="deliveries.email"\} (\d+)', page, re.MULTILINE)
    return int(found[1]) if found else 0


def published(container: dict[str, Any]) -> Iterator[int]:
    """Its ports on the host."""
    for bindings in container["NetworkSettings"]["Ports"].values():
        for binding in bindings or ():
            assert binding["HostIp"] == "127.0.0.1"
            yield int(binding["HostPort"])


def answers(compose: Compose, port: int) -> bool:
    """Whether the API answers at a port on the loopback of the namespace."""
    script = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}/openapi.json', timeout=10).status)"
    command = [*compose.engine.inside(), sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "200"


def upgrades_and_rolls_back(compose: Compose) -> dict[str, Any]:
    """A later image migrates the schema; the earlier one runs on it."""
    steps = {}
    for step, image in (("upgraded", NEXT), ("rolled_back", SLUICE)):
        compose.up(image=image)
        images = {each["Config"]["Image"] for name in ROLE_NAMES for each in compose.of(name)}
        assert images == {image}
        steps[step] = demo_is_sent(compose, image)["status"]
    log = compose("logs", "--no-color", "setup").stdout
    assert "database_newer" in log, log
    return steps


def a_failed_migration_ends_up(compose: Compose) -> dict[str, Any]:
    """`up` ends with an error instead of waiting, and the earlier image comes back."""
    failed = compose.up(image=BROKEN, check=False)
    assert failed.returncode != 0
    log = compose("logs", "--no-color", "setup").stdout
    assert "division by zero" in log, log
    compose.up()
    return {"exit_code": failed.returncode, **demo_is_sent(compose)}


def a_starting_role_stops_at_once(compose: Compose) -> dict[str, Any]:
    """Process 1 of a container without an init, stopped while it imports its modules or waits for PostgreSQL.

    What arrives before the interpreter has read the first module is lost: there, Compose has an init, and Kubernetes
    a pause before the signal.
    """
    docker = compose.engine.docker
    settings = {
        "SLUICE_POSTGRES_DSN": "postgresql://x@192.0.2.1/x",
        "SLUICE_KAFKA_BOOTSTRAP_SERVERS": "192.0.2.1:9092",
        "SLUICE_ENCRYPTION_KEY": base64.b64encode(bytes(32)).decode(),  # without one a worker ends by itself
    }
    given = [word for name, value in settings.items() for word in ("--env", f"{name}={value}")]
    codes: list[int] = []
    for role in (*ROLES[:3], ROLES[1]):
        command = ["run", "--detach", "--network", "none", *given, SLUICE, "python", "-m", role.module]
        container = docker(*command).stdout.strip()
        wait_for_handler(json.loads(docker("inspect", container).stdout)[0]["State"]["Pid"])
        time.sleep(len(codes))  # seconds: earlier and later in the start
        docker("stop", "--time", "20", container)
        codes.append(json.loads(docker("inspect", container).stdout)[0]["State"]["ExitCode"])
        docker("rm", container)
    assert set(codes) <= {0, 128 + signal.SIGTERM}, codes
    return {"exit_codes": codes}


def wait_for_handler(process: int) -> None:
    """Wait until the process catches SIGTERM."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        [mask] = re.findall(r"^SigCgt:\s*(\w+)", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
        if int(mask, 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.02)
    raise AssertionError("it does not catch SIGTERM")


def stops_gracefully(compose: Compose) -> dict[str, Any]:
    """No role is killed, and none fails, when the set is stopped."""
    began = time.monotonic()
    compose("stop")
    codes = {name: compose.of(name)[0]["State"]["ExitCode"] for name in (*ROLE_NAMES, "postgres", "redis")}
    assert set(codes.values()) == {0}, codes
    return {"seconds": round(time.monotonic() - began)}


def leaves_nothing(compose: Compose) -> dict[str, Any]:
    """After `down` the engine has no container, volume or network of the set."""
    compose("--profile", "cli", "down", "--volumes", "--remove-orphans")
    docker = compose.engine.docker
    label = "label=com.docker.compose.project=sluice"
    left = [
        *docker("ps", "--all", "--quiet", "--filter", label).stdout.split(),
        *docker("volume", "ls", "--quiet", "--filter", label).stdout.split(),
        *docker("network", "ls", "--quiet", "--filter", label).stdout.split(),
    ]
    assert left == []
    return {"left": len(left)}


CHECKS: tuple[Callable[[Compose], dict[str, Any]], ...] = (
    files_are_valid,
    comes_up,
    is_confined,
    demo_fails_over,
    commands_know_the_installation,
    scales,
    upgrades_and_rolls_back,
    a_failed_migration_ends_up,
    verifies,
    a_starting_role_stops_at_once,
    stops_gracefully,
    leaves_nothing,
)


def run_checks(engine: Engine, progress: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """The result of each check; the set is taken down whatever happens. A check that fails does not end the others."""
    compose = Compose(engine)
    results: dict[str, dict[str, Any]] = {}
    for check in CHECKS:
        results[check.__name__] = result_of(partial(check, compose))
        if not results[check.__name__]["passed"]:
            save_logs(compose, engine.folder.parent / f"{check.__name__}.log")
        progress(f"{check.__name__}: {results[check.__name__]}")
    return results


def save_logs(compose: Compose, file: Path) -> None:
    """The output of all containers, for the one who looks into a failure."""
    file.write_text(compose("logs", "--no-color", "--tail", "200", check=False).stdout)
