"""How many processes of each role run: their names, the limits, and the file that keeps the numbers.

The first process of a role has the role's name and port. The others are called ROLE-2, ROLE-3 and so on, and listen on
free ports.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from sluice.runtime.errors import SluiceError
from sluice_launcher.roles import ALL_ROLES, ROLES, role

FILE = "scale.json"
MAX_PROCESSES = 32
"""Of one role on one machine."""

POSTGRES_CONNECTIONS = 200
"""Which the PostgreSQL of the launcher accepts (``max_connections``)."""
RESERVED_CONNECTIONS = 20
"""For the superuser, and for the commands of operators."""

ONE_PROCESS = {
    "mailbox": "it is one SMTP server, for the demo",
}
"""The roles that cannot be scaled, and why."""

_NUMBERED = re.compile(r"(?P<role>.+?)-(?P<number>[1-9]\d*)")


def process_name(name: str, number: int) -> str:
    """The name of a role's process; numbers begin with 1."""
    return name if number == 1 else f"{name}-{number}"


def process_names(scale: Mapping[str, int], name: str) -> list[str]:
    """The names of all processes of a role."""
    return [process_name(name, number) for number in range(1, scale.get(name, 1) + 1)]


def role_of(process: str) -> tuple[str, int]:
    """The role of a process, and its number. A name without a number is the first process."""
    found = _NUMBERED.fullmatch(process)
    if found and any(each.name == found["role"] for each in ALL_ROLES):
        return found["role"], int(found["number"])
    return process, 1


def parse_scale(texts: Iterable[str]) -> dict[str, int]:
    """The numbers in ``ROLE=N``.

    Raises:
        SluiceError: a text has another form, or names what cannot be scaled to that number.
    """
    scale: dict[str, int] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in {each.name for each in ALL_ROLES}:
            known = ", ".join(each.name for each in ROLES if each.name not in ONE_PROCESS)
            raise SluiceError(f"--scale {text}: {name} is not a role that can be scaled; there are {known}")
        if not number.isascii() or not number.isdecimal():
            raise SluiceError(f"--scale {text}: it must be ROLE=NUMBER, such as {name}=3")
        if scale.setdefault(name, int(number)) != int(number):
            raise SluiceError(f"--scale {text}: {name} has two numbers, {scale[name]} and {int(number)}")
        _check_number(name, int(number))
    return scale


def _check_number(name: str, number: int) -> None:
    if number < 1:
        raise SluiceError(f"{name}={number}: at least one process of a role runs; `sluice stop {name}` stops it")
    if number > 1 and name in ONE_PROCESS:
        raise SluiceError(f"{name}={number}: {name} runs as one process: {ONE_PROCESS[name]}")
    if number > MAX_PROCESSES:
        raise SluiceError(
            f"{name}={number}: at most {MAX_PROCESSES} processes of a role run on one machine; docs/scaling.md says "
            "how to use several"
        )


def check_roles(scale: Mapping[str, int], roles: Iterable[str]) -> None:
    """Only roles that run can be scaled.

    Raises:
        SluiceError: another is named.
    """
    running = list(roles)
    for name in scale:
        if name not in running:
            raise SluiceError(f"{name} cannot be scaled: it does not run here; there are {', '.join(running)}")


def check_connections(scale: Mapping[str, int], roles: Iterable[str], pool_size: int) -> None:
    """The pools of all processes must fit into the launcher's PostgreSQL.

    ``pool_size``: connections of a process, besides the one that listens for notifications.

    Raises:
        SluiceError: they do not.
    """
    processes = sum(scale.get(name, 1) for name in roles if role(name).login is not None and name != "health")
    needed = processes * (pool_size + 1)
    free = POSTGRES_CONNECTIONS - RESERVED_CONNECTIONS
    if needed > free:
        raise SluiceError(
            f"{processes} processes with {pool_size + 1} PostgreSQL connections each need {needed}, and there are "
            f"{free}: lower SLUICE_POSTGRES_POOL_SIZE, or use a PostgreSQL of your own"
        )


def check_partitions(scale: Mapping[str, int], partitions: Mapping[str, int]) -> None:
    """A consumer needs a partition: more processes than partitions would have no work.

    ``partitions``: the number of each topic.

    Raises:
        SluiceError: a role would have more processes than partitions; with the command that adds some.
    """
    for name, number in scale.items():
        topics = {topic: partitions.get(topic, 0) for topic in consumed_topics(name)}
        if topics and number > max(topics.values()):
            more = " ".join(f"{topic}={number}" for topic in topics)
            have = ", ".join(f"{topic} has {count}" for topic, count in topics.items())
            raise SluiceError(
                f"{name}={number} is more than the partitions that it reads ({have}): processes without a partition "
                f"have no work; `sluice partitions {more}` adds some"
            )


def consumed_topics(name: str) -> list[str]:
    """The topics whose partitions bound the processes of a role; none for the gateway, which also answers HTTP."""
    from sluice.bus.topics import SUBSCRIPTIONS

    return [topic.value for group, topics in SUBSCRIPTIONS.items() if group.value == name for topic in topics]


def read_scale(data_dir: Path) -> dict[str, int]:
    """The numbers that were set last; empty if none were.

    Raises:
        SluiceError: the file does not have that form.
    """
    path = data_dir / FILE
    try:
        stored = json.loads(path.read_text())
        return parse_scale(f"{name}={number}" for name, number in stored.items())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, SluiceError) as fault:
        raise SluiceError(f"{path} cannot be used ({fault}): delete it to run one process of each role") from None


def write_scale(data_dir: Path, scale: Mapping[str, int]) -> None:
    """Replace the numbers of these roles, and keep those of others.

    Raises:
        OSError: the file cannot be written.
    """
    path = data_dir / FILE
    merged = {**read_scale(data_dir), **scale}
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps({name: number for name, number in merged.items() if number > 1}))
    os.replace(draft, path)
