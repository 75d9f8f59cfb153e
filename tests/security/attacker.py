"""A process that attacks: ``python -m tests.security.attacker NAME``, the target as JSON on stdin.

In a process of its own, so that its work does not delay the tenant whose requests are measured. It prints one JSON
object: how often the gateway gave which status.
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
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    target = Target(**json.loads(sys.stdin.read()))
    asyncio.run(_attack(sys.argv[1], target))
    print(json.dumps(target.answers))


if __name__ == "__main__":
    main()
