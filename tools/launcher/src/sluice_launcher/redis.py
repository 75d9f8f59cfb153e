"""Redis as a child process, with an append-only file; its configuration contains the password."""

import os
from functools import partial
from pathlib import Path

from sluice_launcher import probes
from sluice_launcher.plan import HOST, Plan, addresses
from sluice_launcher.process_spec import ProcessSpec, Run

CONFIGURATION = """\
bind {host}
port {port}
dir "{data}"
daemonize no
appendonly yes
appendfsync everysec
save ""
{login}
"""


def spec(plan: Plan) -> ProcessSpec:
    """The process as the plan wants it."""
    data = plan.data_dir / "redis"
    config = plan.run_dir / "redis.conf"
    return ProcessSpec(
        name="redis",
        kind="service",
        command=[plan.programs["redis"], config],
        address=addresses(plan)["redis"],
        probe=partial(probes.redis, HOST, plan.ports["redis"]),
        prepare=partial(_configure, plan, data, config),
        stop_seconds=10,
        data=data,
    )


async def _configure(plan: Plan, data: Path, config: Path, run: Run) -> None:
    data.mkdir(mode=0o700, exist_ok=True)  # noqa: ASYNC240
    login = f"requirepass {plan.redis_password}" if plan.redis_password else "protected-mode no"
    text = CONFIGURATION.format(host=HOST, port=plan.ports["redis"], data=data, login=login)
    with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
