"""Attribution: the calls and receipts of providers that carry no reference of ours, assigned to their attempts.

Seven packages have no field for a reference, or return none. Every request of a run has a recipient of its own: the
recipient and the endpoint name the delivery and the provider, the time of the call names the attempt.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.chaos.cluster import Cluster
from tests.chaos.db_snapshot import DbSnapshot
from tests.chaos.ledgers import moment, read

Attempts = dict[tuple[str, UUID], list[dict[str, Any]]]


def attribute(cluster: Cluster, snapshot: DbSnapshot) -> tuple[Path, Path]:
    """Copies of the call log and of the log of receipts, in which every line that can be assigned has a reference."""
    made: Attempts = defaultdict(list)
    for delivery in snapshot.by_id.values():
        for attempt in delivery.attempts:
            made[_key(delivery.recipient), attempt["provider_id"]].append(attempt)
    references: dict[tuple[str, str], str] = {}
    calls = _copy(cluster.simulation.calls, _called(cluster, made, references))
    receipts = _copy(cluster.simulation.receipts, _received(cluster.simulation.receipts, references))
    return calls, receipts


def _called(cluster: Cluster, made: Attempts, references: dict[tuple[str, str], str]) -> Iterator[dict[str, Any]]:
    for line in read(cluster.simulation.calls):
        if line["behaviour"] == "other":  # no message: a token, a certificate
            continue
        provider = cluster.project.providers.get(line["endpoint"])
        if not line.get("reference") and line.get("recipient") and provider is not None:
            before = [one for one in made[_key(line["recipient"]), provider] if one["started_at"] <= moment(line["at"])]
            if before:
                line["reference"] = max(before, key=lambda one: one["started_at"])["client_reference"]
        if line.get("reference") and line.get("provider_message_id"):
            references[line["endpoint"], line["provider_message_id"]] = line["reference"]
        yield line


def _received(path: Path, references: dict[tuple[str, str], str]) -> Iterator[dict[str, Any]]:
    for line in read(path):
        if not line["reference"]:
            line["reference"] = references.get((line["endpoint"], line["provider_message_id"]))
        yield line


def _key(recipient: str) -> str:
    """A recipient as every provider writes it: numbers with and without a plus sign."""
    return recipient.lower().removeprefix("+")


def _copy(original: Path, lines: Iterator[dict[str, Any]]) -> Path:
    path = original.with_suffix(".attributed.jsonl")
    with path.open("w") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")
    return path
