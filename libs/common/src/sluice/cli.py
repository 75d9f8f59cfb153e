"""The `sluice` command: a table of modules, each of which registers its subcommands.

A module imports what is heavy inside the function that runs: `sluice --help` and `sluice status` are quick.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from sluice.errors import SluiceError

MODULES = (
    "sluice.launcher.commands",  # up, down, status, logs, restart, stop, start, env, key
    "sluice.commands.record",  # migrate, topics
    "sluice.commands.send",  # send, outbox, message
    "sluice.commands.demo",  # demo
    "sluice.commands.verify",  # verify
    "sluice.commands.simulate",  # simulate
)

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except SluiceError as fault:
        print(f"sluice: {fault}", file=sys.stderr)
        return fault.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # `sluice logs | head`: whoever read us has seen enough. Python's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sluice",
        description="Sends messages through whichever provider works, and proves what became of them.",
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in MODULES:
        importlib.import_module(name).register(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
