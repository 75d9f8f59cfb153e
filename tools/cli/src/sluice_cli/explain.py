"""explain: why each attempt of a message went to its provider."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from sluice_cli.terminal import printable

_POLICIES = {
    "adaptive": "by recent health",
    "seed": "by the errors among the last 100 attempts",
    "static": "by priority alone",
}


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    explain = subparsers.add_parser(
        "explain",
        help="why each attempt of a message went to its provider",
        description="Prints the routing decision that is stored with each attempt: the candidates in priority order, "
        "the evidence about each, and why the others were not selected.",
    )
    explain.add_argument("id", help="msg_…")
    explain.add_argument("--key", help="API key (default: SLUICE_API_KEY or the demo's)")
    explain.add_argument("--sandbox", action="store_true", help="a message that was sent with the demo's test key")
    explain.add_argument("--json", action="store_true", help="print the decisions as JSON")
    explain.set_defaults(run=run_explain)


def run_explain(options: argparse.Namespace) -> int:
    """Print the decisions.

    Raises:
        SluiceError: the gateway cannot be reached, or the project has no such message.
    """
    from sluice_cli.context import api_key
    from sluice_cli.send import api_request, segment

    key = api_key(options.key, is_test=options.sandbox)
    message = api_request("GET", f"/v1/messages/{segment(options.id)}", key)
    if options.json:
        print(json.dumps([event for event in message["events"] if event["routing"]], indent=2, ensure_ascii=False))
    else:
        print(explanation(message))
    return 0


def explanation(message: Mapping[str, Any]) -> str:
    """A message of ``GET /v1/messages/:id``: its decisions and their results in plain words."""
    lines = [f"{message['id']}: {message['status']}, {message['channel']} to {', '.join(message['to'])}"]
    for event in message["events"]:
        if event["routing"]:
            lines += ["", *_decision(event)]
        elif event["type"] != "accepted":
            attempt = f" (attempt {event['attempt']})" if event["attempt"] else ""
            lines.append(f"  {event['created_at'][11:19]} {event['type']}{attempt}{_after_colon(event['detail'])}")
    if len(lines) == 1:
        lines.append("No provider was selected yet.")
    return "\n".join(printable(line) for line in lines)


def _decision(event: Mapping[str, Any]) -> Iterator[str]:
    decision = event["routing"]
    policy = _POLICIES.get(decision["policy"], "the message is of a test key")
    where = f", destination {decision['destination']}" if decision["destination"] else ""
    name = decision["provider"]["name"] if decision["provider"] else "none"
    yield f"Attempt {event['attempt']} for {event['recipient']} at {event['created_at'][11:19]}: {name}"
    yield f"  decided {policy}{where}; reason: {decision['reason']}"
    for candidate in decision["candidates"]:
        verdict = "selected" if candidate["excluded"] is None else candidate["excluded"]
        yield f"  {candidate['priority']:>3}  {candidate['provider']['name']}: {verdict}{_evidence(candidate)}"


def _evidence(candidate: Mapping[str, Any]) -> str:
    evidence = candidate["evidence"]
    if evidence is None:
        return "" if candidate["excluded"] else " (no evidence about it)"
    counted = f"{evidence['error_rate']:.1%} errors, {evidence['attempts']:g} recent attempts"
    reason = f", {evidence['reason']}" if evidence["reason"] else ""
    return f" ({evidence['status']}{reason}; {counted})"


def _after_colon(text: str) -> str:
    return f": {text}" if text else ""
