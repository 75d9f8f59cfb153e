"""The process that attacks: a line ``{"attack": NAME, "target": {…}}`` on stdin for each attack.

In a process of its own, so that its work does not delay the tenant whose requests are measured. It answers each line
with one JSON object: how often the gateway gave which status.
"""

import asyncio
import json
import resource
import sys

from tests.security.attacks import ATTACKS
from tests.security.peers import Target


async def _attack(name: str, target: Target) -> None:
    target.begin()
    await ATTACKS[name](target)


def main() -> None:
    """Run the attacks until stdin ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for line in sys.stdin:
        order = json.loads(line)
        target = Target(**order["target"])
        asyncio.run(_attack(order["attack"], target))
        print(json.dumps(target.answers), flush=True)


if __name__ == "__main__":
    main()
