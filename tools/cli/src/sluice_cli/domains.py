"""domain: the sending domains of a project and their DNS records, over the API."""

from __future__ import annotations

import argparse
from typing import Any

from sluice_cli.api_command import Row, add_command, call, find_row, list_rows, print_answer, print_rows

_DOMAINS = "/v1/domains"


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    group = subparsers.add_parser("domain", help="show, add, check and remove the sending domains of a project")
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_command(commands, "list", "show the domains, newest first", _list_domains)
    added = add_command(commands, "add", "add a domain, and print the DNS records that it needs", _add_domain)
    added.add_argument("domain", help="such as example.com")
    shown = add_command(commands, "show", "print a domain with its DNS records", _show_domain)
    checked = add_command(
        commands, "verify", "look the DNS records up; exit code 1 while one is missing", _verify_domain
    )
    removed = add_command(commands, "remove", "remove a domain", _remove_domain)
    for parser in (shown, checked, removed):
        parser.add_argument("domain", help="its id or its name")


def _list_domains(options: argparse.Namespace) -> int:
    return print_rows(options, list_rows(options, _DOMAINS), _line, noun="domain")


def _add_domain(options: argparse.Namespace) -> int:
    row = call(options, "POST", _DOMAINS, {"domain": options.domain})
    return print_answer(options, row, _with_records(row))


def _show_domain(options: argparse.Namespace) -> int:
    row = call(options, "GET", _path(options))
    return print_answer(options, row, _with_records(row))


def _verify_domain(options: argparse.Namespace) -> int:
    row = call(options, "GET", f"{_path(options)}/verify")
    print_answer(options, row, _with_records(row))
    return 0 if row["status"] == "verified" else 1


def _remove_domain(options: argparse.Namespace) -> int:
    answer = call(options, "DELETE", _path(options))
    return print_answer(options, answer, f"{answer['id']} is removed")


def _path(options: argparse.Namespace) -> str:
    row = find_row(list_rows(options, _DOMAINS), options.domain, id_="id", name="domain", noun="domain")
    return f"{_DOMAINS}/{row['id']}"


def _line(row: Row) -> str:
    return f"{row['id']}  {row['status']}  {row['domain']}"


def _with_records(row: Row) -> str:
    records = [
        f"  {one['purpose']}  {one['status']}  {one['host']}  {one['type']}  {one['value']}" for one in row["records"]
    ]
    return "\n".join([_line(row), *records])
