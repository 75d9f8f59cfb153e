"""The backing services and the roles, each with its default port."""

from dataclasses import dataclass
from typing import Literal

from sluice.store import logins

SERVICES = ("postgres", "redis", "kafka")

SERVICE_PORTS = {"postgres": 15432, "redis": 16379, "kafka": 19092, "kafka-controller": 19093}


@dataclass(frozen=True, slots=True)
class Role:
    """One process: `python -m module`, ready when its probe succeeds.

    ``ops_port``: of the ops endpoints, for a role whose own port is reached from outside.
    """

    name: str
    module: str
    port: int
    login: str | None  # its login in PostgreSQL; None: it has none
    probe: Literal["http", "smtp"] = "http"
    ops_port: int | None = None


ROLES = (
    Role("gateway", "gateway", 8080, logins.GATEWAY.name, ops_port=8090),
    Role("router", "router", 8081, logins.ROUTER.name),
    Role("email-worker", "email_worker", 8082, logins.WORKER.name),
    Role("sms-worker", "sms_worker", 8083, logins.WORKER.name),
    Role("push-worker", "push_worker", 8084, logins.WORKER.name),
    Role("health", "health", 8085, logins.HEALTH.name),
    Role("event-worker", "event_worker", 8086, logins.EVENT_WORKER.name),
)

# A real SMTP server that keeps the mail it receives: for the demo, no part of an installation.
MAILBOX = Role("mailbox", "sluice_simulator.mailbox", 1025, None, probe="smtp")

ALL_ROLES = (*ROLES, MAILBOX)


def role(name: str) -> Role:
    return next(role for role in ALL_ROLES if role.name == name)


ADDRESS_SETTINGS = {
    "postgres": "SLUICE_POSTGRES_OWNER_DSN",
    "redis": "SLUICE_REDIS_URL",
    "kafka": "SLUICE_KAFKA_BOOTSTRAP_SERVERS",
}
"""The environment variable with the address of each service; of PostgreSQL, for the owner of the tables."""


def ops_name(name: str) -> str:
    """The name under which the port of a role's ops endpoints is chosen and set."""
    return f"{name}-ops"


def default_ports() -> dict[str, int]:
    """Every port of an installation by name: services, roles, ops endpoints."""
    ops = {ops_name(role.name): role.ops_port for role in ALL_ROLES if role.ops_port is not None}
    return SERVICE_PORTS | {role.name: role.port for role in ALL_ROLES} | ops


def port_setting(name: str) -> str:
    """The environment variable that sets a port of :func:`default_ports`."""
    return f"SLUICE_{name.upper().replace('-', '_')}_PORT"
