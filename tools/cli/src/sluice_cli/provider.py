"""provider list|add|test|enable|disable|move|remove: the providers of a project, over the API."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from sluice.runtime.errors import SluiceError
from sluice_cli.api_command import add_command, call, find_row
from sluice_cli.terminal import printable

_PATH = "/v1/providers"


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    provider = subparsers.add_parser("provider", help="show and change the providers of a project")
    commands = provider.add_subparsers(title="commands", metavar="COMMAND", required=True)
    shown = _command(commands, "list", "show the providers in routing order, with their health", run_list)
    shown.add_argument("--channel", help="of one channel only")
    added = _command(commands, "add", "add a provider; the credentials are JSON on standard input", run_add)
    added.add_argument("package", help="such as provider-smtp; GET /v1/packages shows its credentials")
    added.add_argument("name", help="name of the provider")
    added.add_argument("--disabled", action="store_true", help="do not use it yet")
    added.add_argument("--verify", metavar="RECIPIENT", help="add it only if a message to this recipient is accepted")
    added.add_argument("--from", dest="sender", help="sender of that message")
    tested = _command(commands, "test", "send one real message through just this provider", run_test, one=True)
    tested.add_argument("--to", required=True, help="recipient")
    tested.add_argument("--from", dest="sender", help="sender (e-mail: by default that of the project)")
    _command(commands, "enable", "use a provider", run_enable, one=True)
    _command(commands, "disable", "stop using a provider", run_disable, one=True)
    moved = _command(commands, "move", "change the place of a provider in its channel", run_move, one=True)
    moved.add_argument("position", type=int, help="1: tried first")
    _command(commands, "remove", "remove a provider", run_remove, one=True)


def _command(commands: Any, name: str, text: str, run: Any, *, one: bool = False) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = add_command(commands, name, text, run)
    if one:
        parser.add_argument("provider", help="prv_…, or the name if only one provider has it")
    return parser


def run_list(options: argparse.Namespace) -> int:
    """Show the providers."""
    _print(options, _list(options, options.channel))
    return 0


def run_add(options: argparse.Namespace) -> int:
    """Add a provider with the credentials of standard input: an argument would be visible to other users."""
    body = {
        "packageName": options.package,
        "name": options.name,
        "credentials": _read_credentials(),
        "enabled": not options.disabled,
    }
    if options.verify:
        body["verify"] = _message(options.verify, options.sender)
    _print(options, [call(options, "POST", _PATH, body)])
    return 0


def run_test(options: argparse.Namespace) -> int:
    """Send a test message; the exit code is 1 if the provider did not accept it."""
    path = f"{_PATH}/{_find(options)['id']}/test"
    result = call(options, "POST", path, _message(options.to, options.sender))
    if options.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        print(printable(f"{result['outcome']} after {result['duration_ms']} ms  {result['detail']}".rstrip()))
    return 0 if result["outcome"] == "accepted" else 1


def run_enable(options: argparse.Namespace) -> int:
    """Use a provider."""
    return _switch(options, enabled=True)


def run_disable(options: argparse.Namespace) -> int:
    """Stop using a provider."""
    return _switch(options, enabled=False)


def _switch(options: argparse.Namespace, *, enabled: bool) -> int:
    _print(options, [call(options, "PATCH", f"{_PATH}/{_find(options)['id']}", {"enabled": enabled})])
    return 0


def run_move(options: argparse.Namespace) -> int:
    """Give a provider another place in its channel."""
    moved = _find(options)
    others = [row["id"] for row in _list(options, moved["channel"]) if row["id"] != moved["id"]]
    if not 1 <= options.position <= len(others) + 1:
        raise SluiceError(f"position: must be 1 to {len(others) + 1}")
    others.insert(options.position - 1, moved["id"])
    answer = call(options, "POST", f"{_PATH}/reorder", {"channel": moved["channel"], "providerIds": others})
    _print(options, answer["data"])
    return 0


def run_remove(options: argparse.Namespace) -> int:
    """Remove a provider."""
    answer = call(options, "DELETE", f"{_PATH}/{_find(options)['id']}")
    print(json.dumps(answer, indent=2) if options.json else f"{answer['id']} is removed")
    return 0


def _list(options: argparse.Namespace, channel: str | None = None) -> list[dict[str, Any]]:
    from urllib.parse import urlencode

    query = f"?{urlencode({'channel': channel})}" if channel else ""
    rows: list[dict[str, Any]] = call(options, "GET", _PATH + query)["data"]
    return rows


def _find(options: argparse.Namespace) -> dict[str, Any]:
    """The provider that the command names.

    Raises:
        SluiceError: none has this id or name, or several have the name.
    """
    return find_row(_list(options), options.provider, id_="id", name="name", noun="provider")


def _read_credentials() -> Any:
    try:
        return json.loads(sys.stdin.read())
    except ValueError:
        raise SluiceError("the credentials on standard input are not JSON") from None


def _message(to: str, sender: str | None) -> dict[str, str]:
    return {"to": to} | ({"from": sender} if sender else {})


def _print(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        enabled = "enabled" if row["enabled"] else "disabled"
        unreadable = "  credentials unreadable" if row["credentials"]["status"] == "unreadable" else ""
        line = f"{row['id']}  {row['channel']} {row['position']}  {row['packageName']}  {row['name']}"
        print(printable(f"{line}  {enabled}  {row['health']['status']}{unreadable}"))
    if not rows:
        print("no providers")
