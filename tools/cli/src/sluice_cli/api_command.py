"""What the commands that work over the API have in common: options, requests, pages, output."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sluice.runtime.errors import SluiceError
from sluice_cli.send import api_request
from sluice_cli.terminal import printable

Row = dict[str, Any]


def add_command(commands: Any, name: str, text: str, run: Callable[[argparse.Namespace], int]) -> Any:
    """A subcommand with the options of every command over the API."""
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--key", help="API key, or ses_… of a session (default: SLUICE_API_KEY or the demo's)")
    parser.add_argument("--project", help="with a session: the slug of the project")
    parser.add_argument("--json", action="store_true", help="print the API's JSON")
    parser.set_defaults(run=run)
    return parser


def call(options: argparse.Namespace, method: str, path: str, body: Any = None) -> Any:
    """One request with the options' key; the answer's JSON.

    Raises:
        SluiceError: there is no key, the gateway cannot be reached, or it rejected the request.
    """
    from sluice_cli.context import api_key

    content = None if body is None else json.dumps(body).encode()
    return api_request(method, path, api_key(options.key), content, project=options.project)


def list_rows(
    options: argparse.Namespace, path: str, query: Mapping[str, str | None] | None = None, *, limit: int | None = None
) -> list[Row]:
    """The first ``limit`` rows of a list, or all, page by page."""
    from urllib.parse import urlencode

    asked = {name: value for name, value in (query or {}).items() if value}
    rows: list[Row] = []
    cursor = None
    while True:
        parameters = asked | ({"cursor": cursor} if cursor else {})
        page = call(options, "GET", f"{path}?{urlencode(parameters)}" if parameters else path)
        rows += page["data"]
        cursor = page.get("next_cursor")
        if not cursor or (limit is not None and len(rows) >= limit):
            return rows[:limit]


def find_row(rows: Iterable[Row], wanted: str, *, id_: str, name: str, noun: str) -> Row:
    """The row whose ``id_`` or ``name`` is ``wanted``. ``noun``: of the command that lists them.

    Raises:
        SluiceError: no row has it, or several have the name.
    """
    found = [row for row in rows if wanted in (row[id_], row[name])]
    if len(found) != 1:
        count = f"no {noun} has" if not found else f"{len(found)} {noun}s have"
        raise SluiceError(f"{count} the {id_} or {name} {wanted!r}: `sluice {noun} list` shows the ids")
    return found[0]


def print_rows(
    options: argparse.Namespace, rows: list[Row], line: Callable[[Row], str | Sequence[str]], *, noun: str
) -> int:
    """Print the rows as JSON or a line each, of a text or of cells with tabs between them; returns the exit code."""
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    for row in rows:
        shown = line(row)
        print("\t".join(map(printable, [shown] if isinstance(shown, str) else shown)))
    if not rows:
        print(f"no {noun}s")
    return 0


def print_answer(options: argparse.Namespace, answer: Any, text: str) -> int:
    """Print the answer as JSON, or ``text``; returns the exit code."""
    print(json.dumps(answer, indent=2, ensure_ascii=False) if options.json else printable(text, multiline=True))
    return 0
