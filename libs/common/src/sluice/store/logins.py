"""The logins of the roles in PostgreSQL, and their passwords.

`sluice migrate` creates them. The owner of the tables is the login that migrates; no role runs as the owner.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from sluice.runtime.errors import SluiceError

PROJECT_IDS = "sluice.project_ids"
"""The setting of PostgreSQL with the projects whose rows a login sees: an array of ids, for one transaction."""


@dataclass(frozen=True, slots=True)
class Login:
    """One login; its privileges are in :mod:`sluice.store.tables`.

    ``sees_all_projects``: its role works on batches with deliveries of many projects. The others see the rows of the
    projects in ``sluice.project_ids``: none by default.
    """

    name: str
    sees_all_projects: bool = False


GATEWAY = Login("sluice_gateway")
ROUTER = Login("sluice_router", sees_all_projects=True)
WORKER = Login("sluice_worker", sees_all_projects=True)
HEALTH = Login("sluice_health")
EVENT_WORKER = Login("sluice_event_worker", sees_all_projects=True)
OPERATOR = Login("sluice_operator", sees_all_projects=True)  # the commands of the `sluice` program

LOGINS = (GATEWAY, ROUTER, WORKER, HEALTH, EVENT_WORKER, OPERATOR)


def password_setting(name: str) -> str:
    """The environment variable with the password of a login: ``SLUICE_POSTGRES_PASSWORD_GATEWAY``."""
    return f"SLUICE_POSTGRES_PASSWORD_{name.removeprefix('sluice_').upper()}"


def read_passwords(environment: Mapping[str, str]) -> dict[str, str]:
    """The passwords in the environment, by the name of the login.

    Raises:
        SluiceError: one is not printable ASCII; the sentence names the variable.
    """
    found = {login.name: environment.get(password_setting(login.name), "") for login in LOGINS}
    for name, password in found.items():
        if not (password.isascii() and password.isprintable()):
            raise SluiceError(f"{password_setting(name)} must consist of printable ASCII characters")
    return {name: password for name, password in found.items() if password}


def with_login(dsn: str, name: str, password: str | None) -> str:
    """The address of the same database for another login."""
    parts = urlsplit(dsn)
    secret = f":{quote(password, safe='')}" if password else ""
    return parts._replace(netloc=f"{name}{secret}@{parts.netloc.rpartition('@')[2]}").geturl()


def scram_verifier(password: str) -> str:
    """What PostgreSQL stores of an ASCII password with SCRAM-SHA-256 (RFC 5803), with a random salt."""
    salt, iterations = secrets.token_bytes(16), 4096
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    texts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{texts[0]}${texts[1]}:{texts[2]}"
