"""bulk: one message for many recipients, uploaded as a file of JSON lines, over the API."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sluice.runtime.arguments import within
from sluice.runtime.errors import SluiceError
from sluice_cli.api_command import Row, add_command, call, list_rows, print_answer, print_rows
from sluice_cli.send import api_request, segment

_JOBS = "/v1/messages/bulk"


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    group = subparsers.add_parser("bulk", help="upload, show and cancel bulk jobs")
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listed = add_command(commands, "list", "show the jobs, newest first", _list_jobs)
    listed.add_argument(
        "-n", "--limit", type=within(int, 1, 100_000), default=20, help="number of jobs (default %(default)s)"
    )
    sent = add_command(commands, "send", "upload a file of JSON lines: the message, then a row each recipient", _send)
    sent.add_argument("file", help="the file; - for standard input")
    sent.add_argument("--idempotency-key", help="a repeated upload with the same key is the first job")
    shown = add_command(commands, "show", "print the progress of a job", _show_job)
    results = add_command(commands, "results", "print what became of each row so far, as JSON lines", _results)
    cancelled = add_command(commands, "cancel", "send nothing more of a job", _cancel)
    for parser in (shown, results, cancelled):
        parser.add_argument("job", help="blk_…")


def _list_jobs(options: argparse.Namespace) -> int:
    return print_rows(options, list_rows(options, _JOBS, limit=options.limit), _line, noun="bulk job")


def _send(options: argparse.Namespace) -> int:
    headers = {"content-type": "application/jsonl"}
    if options.idempotency_key:
        headers["idempotency-key"] = options.idempotency_key
    row = _request(options, "POST", _JOBS, _content(options.file), headers)
    return print_answer(options, row, _line(row))


def _content(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise SluiceError(f"{file} cannot be read: {error.strerror}") from None


def _show_job(options: argparse.Namespace) -> int:
    row = call(options, "GET", _path(options))
    states = [f"  {state}  {count}" for state, count in row["deliveries"].items()]
    return print_answer(options, row, "\n".join([_line(row), *states]))


def _results(options: argparse.Namespace) -> int:
    text = _request(options, "GET", f"{_path(options)}/results?format=jsonl")
    rows = [json.loads(line) for line in text.splitlines()] if isinstance(text, str) else text
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        print("\n".join(json.dumps(row) for row in rows))
    return 0


def _cancel(options: argparse.Namespace) -> int:
    row = call(options, "DELETE", f"{_path(options)}/cancel")
    return print_answer(options, row, _line(row))


def _request(
    options: argparse.Namespace, method: str, path: str, body: bytes | None = None, headers: Row | None = None
) -> Any:
    from sluice_cli.context import api_key

    return api_request(method, path, api_key(options.key), body, project=options.project, headers=headers)


def _path(options: argparse.Namespace) -> str:
    return f"{_JOBS}/{segment(options.job)}"


def _line(row: Row) -> str:
    counts = f"{row['accepted']} accepted, {row['rejected']} rejected of {row['recipients']}"
    return f"{row['id']}  {row['status']}  {counts}"
