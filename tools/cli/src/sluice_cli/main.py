"""The `sluice` command. Subcommands are found by the entry point group `sluice.commands`: an image without the
launcher has no `up`, a checkout has everything.

A module imports heavy dependencies inside the function that runs: `sluice --help` and `sluice status` are quick.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

from sluice.runtime.errors import SluiceError

COMMANDS = "sluice.commands"
"""The entry point group; each entry names a module with `register(subparsers)`."""

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except SluiceError as fault:
        print(f"sluice: {fault}", file=sys.stderr)
        return fault.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # `sluice logs | head`: the reader has closed the pipe. Python's own flush at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from sluice_cli.faults import sentence_of

        sentence = sentence_of(error)
        if sentence is None:
            raise
        print(f"sluice: {sentence}", file=sys.stderr)
        return 1
    return code


def build_parser() -> argparse.ArgumentParser:
    """The parser with the subcommands of every installed package."""
    parser = argparse.ArgumentParser(
        prog="sluice",
        description="Sends messages through the provider that works, and proves the outcome of each.",
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for entry in sorted(entry_points(group=COMMANDS), key=lambda entry: entry.name):
        entry.load().register(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
