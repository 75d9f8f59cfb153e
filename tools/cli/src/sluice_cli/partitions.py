"""partitions: the partitions of the topics, and more of them while everything runs."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterable
from typing import Any

from sluice.runtime.errors import SluiceError


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    partitions = subparsers.add_parser(
        "partitions",
        help="show the partitions of the topics, or add some while everything runs",
        description="A role can use as many processes as its topics have partitions. Running roles use new partitions "
        "within seconds. Kafka cannot remove partitions. Set the number in deploy/topics.yml too, so that a new Kafka "
        "has it.",
    )
    partitions.add_argument("totals", nargs="*", metavar="TOPIC=N", help="such as deliveries.email=16")
    partitions.add_argument("--json", action="store_true", help="print JSON")
    partitions.set_defaults(run=run_partitions)


def run_partitions(options: argparse.Namespace) -> int:
    """Add partitions, and print the number of each topic that was named, or of all."""
    return asyncio.run(_run(parse_totals(options.totals), as_json=options.json))


async def _run(totals: dict[str, int], *, as_json: bool) -> int:
    from sluice.bus.topic_admin import add_partitions, read_partitions
    from sluice_cli.context import kafka

    connection = kafka()
    if totals:
        before = await add_partitions(connection, totals)
        shown = totals
    else:
        before, shown = {}, await read_partitions(connection)
    if as_json:
        print(json.dumps(shown))
        return 0
    for name, number in shown.items():
        print(f"{name:<22} {number}" + (f"  (had {before[name]})" if name in before else ""))
    return 0


def parse_totals(texts: Iterable[str]) -> dict[str, int]:
    """The numbers in ``TOPIC=N``.

    Raises:
        SluiceError: a text has another form.
    """
    totals: dict[str, int] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if not name or not number.isascii() or not number.isdecimal():
            raise SluiceError(f"{text}: it must be TOPIC=NUMBER, such as deliveries.email=16")
        if name in totals:
            raise SluiceError(f"{text}: {name} is named twice")
        totals[name] = int(number)
    return totals
