"""A rolling upgrade and a rollback under load, between a commit and this checkout (docs/decisions/0056).

`python -m tests.rolling --from COMMIT` builds the commit in a temporary folder and runs two phases:

- upgrade: the commit's roles on this checkout's schema, replaced one by one by this checkout's roles;
- rollback: this checkout's roles, replaced one by one by the commit's; the schema stays that of this checkout.

Where this checkout has migrations that the commit lacks, a third phase starts its roles on the commit's schema: they
end and say that `sluice migrate` comes first.

While messages are sent, nothing may be lost or sent twice, no role may fail, and `verify` of both codes must be clean.
Everything ends by itself within the time limit. Prints one JSON object; the exit code is 1 when a phase failed.
"""

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from sluice_launcher.local_stack import LocalStack
from sluice_launcher.roles import SERVICES
from sluice_simulator.simulator import CALLS, Simulator
from tests.progress import progress_beside as progress
from tests.rolling.code import Code, Installation, adds_migrations, build, require_same_migrations
from tests.rolling.load import Load

# Those that read what others write come first, as in deployments that replace consumers before producers.
ORDER = ("health", "event-worker", "email-worker", "router", "gateway")
SETTLED_WITHIN = 60.0  # seconds after the load


def main() -> int:
    """Run both phases."""
    parser = argparse.ArgumentParser(prog="python -m tests.rolling", description=__doc__)
    parser.add_argument("--from", dest="commit", required=True, help="the commit that is upgraded")
    parser.add_argument("--rate", type=float, default=20.0, help="messages a second (default %(default)s)")
    parser.add_argument("--phase", choices=("upgrade", "rollback", "too-early"), action="append", help="default: all")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for each phase (default %(default)s)")
    options = parser.parse_args()
    logging.getLogger("mail.log").setLevel(logging.WARNING)
    checkout = Path(__file__).resolve().parents[2]
    require_same_migrations(checkout, options.commit)
    with tempfile.TemporaryDirectory(prefix="sluice-rolling-") as folder:
        old = build(checkout, options.commit, Path(folder) / "old", progress)
        new = Code("new", checkout)
        phases = {
            "upgrade": partial(_roll, name="upgrade", rate=options.rate, first=old, second=new, schema=new),
            "rollback": partial(_roll, name="rollback", rate=options.rate, first=new, second=old, schema=new),
        }
        if adds_migrations(checkout, options.commit):
            phases["too-early"] = partial(_start_too_early, code=new, schema=old)
        elif "too-early" in (options.phase or ()):
            raise SystemExit(f"FROM={options.commit}: it has every migration of this checkout: there is no too-early")
        results = {}
        for name in options.phase or phases:
            (Path(folder) / name).mkdir()
            results[name] = asyncio.run(run_phase(phases[name], Path(folder) / name, options))
    ok = all(result["ok"] for result in results.values())
    print(json.dumps({"ok": ok, "from": options.commit, "rate": options.rate, **results}, indent=2))
    return 0 if ok else 1


Phase = Callable[[Installation], Awaitable[dict[str, Any]]]


async def run_phase(phase: Phase, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run a phase on servers of its own within the time limit."""
    try:
        async with asyncio.timeout(options.limit), AsyncExitStack() as stack:
            servers = LocalStack(folder / "data", services=SERVICES)
            stack.callback(servers.stop)
            # In the main thread: the parent-death signal of the processes follows it.
            servers.start()
            installation = Installation(servers, folder)
            stack.push_async_callback(installation.stop)
            return await phase(installation)
    except TimeoutError:
        return {"ok": False, "faults": [f"not finished within {options.limit:.0f} s"]}
    except (RuntimeError, subprocess.SubprocessError, AssertionError) as error:
        return {"ok": False, "faults": [str(error)]}


async def _roll(
    installation: Installation, *, name: str, rate: float, first: Code, second: Code, schema: Code
) -> dict[str, Any]:
    """Replace the roles of ``first`` by those of ``second`` under load."""
    async with Simulator(endpoints={"smtp": "smtp"}, log_dir=installation.folder) as simulator:
        await installation.prepare(schema)
        await asyncio.gather(*(installation.start(first, role) for role in ORDER))
        progress(f"{name}: the roles of {first.name} run on the schema of {schema.name}")
        key = await installation.configure(first, *simulator.address("smtp"))
        load = Load(installation, key, rate)
        async with load.running():
            await asyncio.sleep(5)
            for role in ORDER:
                await installation.replace(role, second)
                progress(f"{name}: {role} is of {second.name} now, {len(load.accepted)} messages accepted")
            await asyncio.sleep(5)
        return await _result(installation, load, first, second, installation.folder / CALLS)


async def _start_too_early(installation: Installation, *, code: Code, schema: Code) -> dict[str, Any]:
    """Start the roles of ``code`` on an older schema: each ends, and its log names the command that is missing."""
    await installation.prepare(schema)
    faults = []
    for role in ORDER[1:]:  # health has no part in the database
        try:
            await installation.start(code, role)
            faults.append(f"{role} of {code.name} became ready on the schema of {schema.name}")
        except RuntimeError as error:
            if "sluice migrate" not in str(error):
                faults.append(f"{role}: {error}")
            progress(f"too-early: {role} of {code.name} ended on the schema of {schema.name}")
    return {"ok": not faults, "faults": faults}


async def _result(installation: Installation, load: Load, first: Code, second: Code, calls: Path) -> dict[str, Any]:
    deadline = time.monotonic() + SETTLED_WITHIN
    while True:
        report = await installation.verify(second, calls)
        if report["states"] == {"SENT": len(load.accepted)} or time.monotonic() > deadline:
            break
        await asyncio.sleep(1)
    faults = [*load.faults, *installation.faults, *(f"{one['id']}: {one['fault']}" for one in report["faults"])]
    other = await installation.verify(first, calls)
    if other["violations"]:
        faults.append(f"verify of {first.name} finds {other['violations']} violations")
    if report["states"] != {"SENT": len(load.accepted)}:
        faults.append(f"{len(load.accepted)} messages were accepted, and their states are {report['states']}")
    if report["duplicates"]:
        faults.append(f"{report['duplicates']} messages were sent twice")
    counts = {"accepted": len(load.accepted), "repeated_requests": load.repeated, "calls": report["calls"]}
    return {"ok": not faults, **counts, "faults": faults}


if __name__ == "__main__":
    sys.exit(main())
