"""The processes of a plan, in the order in which status shows them."""

import os
import sys
from collections.abc import Iterator
from functools import partial

from sluice_launcher import kafka, postgres, probes, redis
from sluice_launcher.plan import HOST, Plan, addresses, environment, ops_ports, owner_environment
from sluice_launcher.process_spec import ProcessSpec
from sluice_launcher.roles import role

SERVICE_SPECS = {"postgres": postgres.spec, "redis": redis.spec, "kafka": kafka.spec}
PROBES = {"http": probes.http, "smtp": probes.smtp}


def specs(plan: Plan) -> Iterator[ProcessSpec]:
    """The managed services first, then the roles."""
    yield from (SERVICE_SPECS[name](plan) for name in plan.services if plan.is_managed(name))
    yield from (_role_spec(plan, process, name) for process, name in plan.role_processes.items())


def _role_spec(plan: Plan, process: str, name: str) -> ProcessSpec:
    found = role(name)
    ops_port = ops_ports(plan).get(process, plan.ports[process])
    return ProcessSpec(
        name=process,
        kind="role",
        command=[sys.executable, *_optimised(), "-m", found.module],
        address=addresses(plan)[process],
        probe=partial(PROBES[found.probe], HOST, ops_port),
        environment={
            **dict.fromkeys(owner_environment(plan), ""),  # not even from the environment of the command
            **environment(plan, found.login),
            "SLUICE_HOST": HOST,
            "SLUICE_PORT": str(plan.ports[process]),
            **({} if found.ops_port is None else {"SLUICE_OPS_PORT": str(ops_port)}),
            "SLUICE_ROLE": name,
            # The address for providers' receipts; an operator sets it behind a proxy.
            "SLUICE_PUBLIC_URL": os.environ.get("SLUICE_PUBLIC_URL") or addresses(plan).get("gateway", ""),
            # The last lines before a crash must reach the log.
            "PYTHONUNBUFFERED": "1",
        },
        ready_seconds=90.0,  # more than a client that does not get back into its group waits until it ends
        explain=partial(probes.http_reason, HOST, ops_port) if found.probe == "http" else None,
        alive=partial(probes.http_alive, HOST, ops_port) if found.probe == "http" else None,
        memory_limit=plan.role_memory_limit,
    )


def _optimised() -> list[str]:
    """Without failpoints, as in an image, unless the environment names a failpoints file."""
    return [] if "SLUICE_FAILPOINTS_FILE" in os.environ else ["-O"]
