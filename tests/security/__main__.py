"""The attacks by hand: ``python -m tests.security [--seconds 60] [NAME…]``. The last line is one JSON object."""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from sluice_launcher.local_stack import LocalStack
from tests.engine import System
from tests.progress import progress
from tests.security import campaign
from tests.security.attacks import ATTACKS

ROLES = ("gateway", "router", "email-worker", "health")


def main() -> int:
    """Run the attacks; the exit code is 1 when one was not bounded."""
    parser = argparse.ArgumentParser(prog="python -m tests.security")
    parser.add_argument("names", nargs="*", metavar="name", help=f"default: all of {', '.join(ATTACKS)}")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each attack (default: %(default)s)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(ATTACKS):
        parser.error(f"there is no attack {', '.join(sorted(unknown))}; there are {', '.join(ATTACKS)}")
    with tempfile.TemporaryDirectory(prefix="sluice-security-") as folder:
        stack = LocalStack(Path(folder), roles=ROLES, testing=False, progress=progress)
        with stack:
            system = System(stack.addresses, stack.ops_addresses, stack.environment, stack.control, Path(folder))
            figures = asyncio.run(campaign.run(system, seconds=options.seconds, names=options.names, progress=progress))
    print(json.dumps(figures), flush=True)
    return 0 if figures["bounded"] == figures["attacks"] and not figures["other_tenant_lost"] else 1


if __name__ == "__main__":
    sys.exit(main())
