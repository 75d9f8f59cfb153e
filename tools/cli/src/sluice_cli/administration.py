"""template, member, webhook, suppression: what a project has besides providers, over the API."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sluice.runtime.arguments import within
from sluice.runtime.errors import SluiceError
from sluice_cli.api_command import Row, add_command, call, find_row, list_rows, print_answer, print_rows
from sluice_cli.send import segment

_TEMPLATES, _WEBHOOKS, _SUPPRESSIONS = "/v1/templates", "/v1/webhooks", "/v1/suppressions"
_ROLES = ("ADMIN", "DEVELOPER", "VIEWER")


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    _register_templates(_group(subparsers, "template", "show, change and preview the templates of a project"))
    _register_members(_group(subparsers, "member", "show and change the members of a project, with a session"))
    _register_webhooks(_group(subparsers, "webhook", "show and change the endpoints that events are sent to"))
    _register_suppressions(_group(subparsers, "suppression", "show, add and remove suppressed addresses"))


def _group(subparsers: Any, name: str, text: str) -> Any:
    parser = subparsers.add_parser(name, help=text)
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


# -- templates ---------------------------------------------------------------------------------------------------------


def _register_templates(commands: Any) -> None:
    shown = add_command(commands, "list", "show the templates, newest first", _list_templates)
    shown.add_argument("--kind", help="of one kind only: email, push or text")
    created = add_command(commands, "create", "create a template", _create_template)
    created.add_argument("name")
    created.add_argument("--kind", required=True, help="email, push or text")
    updated = add_command(commands, "update", "change parts of a template: a new version", _update_template)
    for parser in (created, updated):
        parser.add_argument("--subject", help="subject of a mail, title of a push notification")
        parser.add_argument("--html", metavar="FILE", help="file with the HTML part; - for standard input")
        parser.add_argument("--text", metavar="FILE", help="file with the text part; - for standard input")
    previewed = add_command(commands, "preview", "print what a template yields; nothing is sent", _preview_template)
    previewed.add_argument("--variables", metavar="JSON", default="{}", help="values of the variables")
    previewed.add_argument("--version", type=within(int, 1, 1_000_000), help="by default the current one")
    with_id = [updated, previewed]
    with_id.append(add_command(commands, "show", "print one template with its sources", _show_template))
    with_id.append(add_command(commands, "remove", "delete a template", _remove_template))
    for parser in with_id:
        parser.add_argument("template", help="tpl_…, or the name if only one template has it")


def _list_templates(options: argparse.Namespace) -> int:
    rows = list_rows(options, _TEMPLATES, {"kind": options.kind})
    return print_rows(options, rows, _template_line, noun="template")


def _template_line(row: Row) -> str:
    return (
        f"{row['id']}  {row['kind']}  version {row['version']}  {row['name']}  {', '.join(row['variables'])}".rstrip()
    )


def _create_template(options: argparse.Namespace) -> int:
    body = {"name": options.name, "kind": options.kind, **_sources(options)}
    row = call(options, "POST", _TEMPLATES, body)
    return print_answer(options, row, _template_line(row))


def _update_template(options: argparse.Namespace) -> int:
    changes = _sources(options)
    if not changes:
        raise SluiceError("nothing changes: give --subject, --html or --text")
    row = call(options, "PATCH", f"{_TEMPLATES}/{_template(options)}", changes)
    return print_answer(options, row, _template_line(row))


def _show_template(options: argparse.Namespace) -> int:
    row = call(options, "GET", f"{_TEMPLATES}/{_template(options)}")
    return print_answer(options, row, f"{_template_line(row)}\n{_parts(row)}")


def _preview_template(options: argparse.Namespace) -> int:
    body = {"variables": _json(options.variables, "--variables")}
    if options.version is not None:
        body["version"] = options.version
    parts = call(options, "POST", f"{_TEMPLATES}/{_template(options)}/preview", body)
    return print_answer(options, parts, _parts(parts))


def _remove_template(options: argparse.Namespace) -> int:
    answer = call(options, "DELETE", f"{_TEMPLATES}/{_template(options)}")
    return print_answer(options, answer, f"{answer['id']} is removed")


def _template(options: argparse.Namespace) -> str:
    return str(find_row(list_rows(options, _TEMPLATES), options.template, id_="id", name="name", noun="template")["id"])


def _parts(row: Row) -> str:
    return "\n".join(f"{part}: {row[part]}" for part in ("subject", "html", "text", "data") if row[part] is not None)


def _sources(options: argparse.Namespace) -> dict[str, str]:
    read = {"subject": options.subject, "html": _read(options.html), "text": _read(options.text)}
    return {part: source for part, source in read.items() if source is not None}


def _read(name: str | None) -> str | None:
    if name is None:
        return None
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise SluiceError(f"{name} cannot be read: {error}") from None


def _json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise SluiceError(f"{option} is not JSON") from None


# -- members -----------------------------------------------------------------------------------------------------------


def _register_members(commands: Any) -> None:
    add_command(commands, "list", "show the members of the project", _list_members)
    added = add_command(commands, "add", "make a person a member, or invite one without an account", _add_member)
    added.add_argument("email")
    role = add_command(commands, "role", "change the role of a member", _set_role)
    role.add_argument("member", help="usr_…, or the e-mail address")
    removed = add_command(commands, "remove", "remove a member", _remove_member)
    removed.add_argument("member", help="usr_…, or the e-mail address")
    added.add_argument("--role", choices=_ROLES, type=str.upper, default="DEVELOPER", help="default: developer")
    role.add_argument("role", choices=_ROLES, type=str.upper)


def _members(options: argparse.Namespace) -> str:
    if not options.project:
        raise SluiceError("--project is required: the slug of the project")
    return f"/v1/projects/{segment(options.project)}/members"


def _list_members(options: argparse.Namespace) -> int:
    return print_rows(options, list_rows(options, _members(options)), _member_line, noun="member")


def _member_line(row: Row) -> str:
    return f"{row['user_id']}  {row['role']}  {row['email']}  {row['name']}".rstrip()


def _add_member(options: argparse.Namespace) -> int:
    row = call(options, "POST", _members(options), {"email": options.email, "role": options.role})
    if row["status"] == "active":
        return print_answer(options, row, _member_line(row))
    return print_answer(
        options, row, f"{row['email']} is invited as {row['role']}: {row['url'] or 'the link was mailed'}"
    )


def _set_role(options: argparse.Namespace) -> int:
    row = call(options, "PATCH", f"{_members(options)}/{_member(options)}", {"role": options.role})
    return print_answer(options, row, _member_line(row))


def _remove_member(options: argparse.Namespace) -> int:
    answer = call(options, "DELETE", f"{_members(options)}/{_member(options)}")
    return print_answer(options, answer, f"{answer['user_id']} is removed")


def _member(options: argparse.Namespace) -> str:
    rows = list_rows(options, _members(options))
    return str(find_row(rows, options.member, id_="user_id", name="email", noun="member")["user_id"])


# -- webhooks ----------------------------------------------------------------------------------------------------------


def _register_webhooks(commands: Any) -> None:
    add_command(commands, "list", "show the endpoints, newest first", _list_webhooks)
    added = add_command(commands, "add", "add an endpoint, and print its signing secret, this once", _add_webhook)
    added.add_argument("url")
    added.add_argument("--events", required=True, help="such as delivered,bounced,failed")
    added.add_argument("--channels", help="only these, separated by commas")
    added.add_argument("--tags", help="only messages with one of these, separated by commas")
    added.add_argument("--description", default="")
    deliveries = add_command(commands, "deliveries", "show the events for an endpoint, newest first", _list_deliveries)
    deliveries.add_argument("--status", help="only those with this status, such as exhausted")
    deliveries.add_argument("--limit", type=within(int, 1, 100_000), default=50, help="how many (default %(default)s)")
    replayed = add_command(commands, "replay", "send one event again", _replay_delivery)
    with_id = [
        deliveries,
        replayed,
        add_command(commands, "enable", "send events to an endpoint again", _enable_webhook),
        add_command(commands, "disable", "send no events to an endpoint", _disable_webhook),
        add_command(commands, "rotate", "make a new signing secret, and print it, this once", _rotate_webhook),
        add_command(commands, "test", "send a test event now", _test_webhook),
        add_command(commands, "remove", "remove an endpoint", _remove_webhook),
    ]
    for parser in with_id:
        parser.add_argument("webhook", help="whk_…, or the URL if only one endpoint has it")
    replayed.add_argument("delivery", help="whd_…, as `sluice webhook deliveries` shows it")


def _list_webhooks(options: argparse.Namespace) -> int:
    return print_rows(options, list_rows(options, _WEBHOOKS), _webhook_line, noun="webhook")


def _webhook_line(row: Row) -> str:
    state = "enabled" if row["enabled"] else f"disabled ({row['disabled_reason'] or 'by hand'})"
    test = "  test messages" if row["test"] else ""
    return f"{row['id']}  {state}  {row['url']}  {','.join(row['events'])}{test}"


def _add_webhook(options: argparse.Namespace) -> int:
    body = {"url": options.url, "events": _words(options.events), "description": options.description}
    body |= {name: _words(value) for name in ("channels", "tags") if (value := getattr(options, name))}
    row = call(options, "POST", _WEBHOOKS, body)
    return print_answer(options, row, f"{_webhook_line(row)}\nsecret: {row['secret']}")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _enable_webhook(options: argparse.Namespace) -> int:
    return _switch_webhook(options, enabled=True)


def _disable_webhook(options: argparse.Namespace) -> int:
    return _switch_webhook(options, enabled=False)


def _switch_webhook(options: argparse.Namespace, *, enabled: bool) -> int:
    row = call(options, "PATCH", _webhook(options), {"enabled": enabled})
    return print_answer(options, row, _webhook_line(row))


def _rotate_webhook(options: argparse.Namespace) -> int:
    row = call(options, "POST", f"{_webhook(options)}/rotate")
    return print_answer(
        options, row, f"secret: {row['secret']}\nthe old one signs too until {row['previous_valid_until']}"
    )


def _test_webhook(options: argparse.Namespace) -> int:
    row = call(options, "POST", f"{_webhook(options)}/test")
    return print_answer(options, row, _delivery_line(row))


def _list_deliveries(options: argparse.Namespace) -> int:
    rows = list_rows(options, f"{_webhook(options)}/deliveries", {"status": options.status}, limit=options.limit)
    return print_rows(options, rows, _delivery_line, noun="delivery of a webhook")


def _delivery_line(row: Row) -> str:
    last = row["attempts"][-1] if row["attempts"] else None
    result = "" if last is None else f"  {last['status'] or last['error']}"
    return f"{row['id']}  {row['created_at']}  {row['type']}  {row['status']}  attempts {len(row['attempts'])}{result}"


def _replay_delivery(options: argparse.Namespace) -> int:
    row = call(options, "POST", f"{_webhook(options)}/deliveries/{segment(options.delivery)}/replay")
    return print_answer(options, row, _delivery_line(row))


def _remove_webhook(options: argparse.Namespace) -> int:
    answer = call(options, "DELETE", _webhook(options))
    return print_answer(options, answer, f"{answer['id']} is removed")


def _webhook(options: argparse.Namespace) -> str:
    row = find_row(list_rows(options, _WEBHOOKS), options.webhook, id_="id", name="url", noun="webhook")
    return f"{_WEBHOOKS}/{row['id']}"


# -- suppressions ------------------------------------------------------------------------------------------------------


def _register_suppressions(commands: Any) -> None:
    shown = add_command(commands, "list", "show the suppressed addresses, newest first", _list_suppressions)
    shown.add_argument("--channel", help="of one channel only")
    shown.add_argument("--reason", help="such as hard_bounce")
    shown.add_argument("--limit", type=within(int, 1, 100_000), default=50, help="how many (default %(default)s)")
    added = add_command(commands, "add", "suppress addresses: no message is sent to them", _add_suppressions)
    added.add_argument("addresses", nargs="+", metavar="ADDRESS")
    added.add_argument("--channel", default="email", help="default: email")
    added.add_argument("--detail", default="", help="a note")
    removed = add_command(commands, "remove", "send messages to an address again", _remove_suppression)
    removed.add_argument("suppression", help="sup_…, or the address if it is suppressed once")
    removed.add_argument("--channel", default="email", help="of the address; default: email")


def _list_suppressions(options: argparse.Namespace) -> int:
    query = {"channel": options.channel, "reason": options.reason}
    rows = list_rows(options, _SUPPRESSIONS, query, limit=options.limit)
    return print_rows(options, rows, _suppression_line, noun="suppression")


def _suppression_line(row: Row) -> str:
    return f"{row['id']}  {row['channel']}  {row['address']}  {row['reason']}  {row['detail']}".rstrip()


def _add_suppressions(options: argparse.Namespace) -> int:
    body = {"channel": options.channel, "addresses": options.addresses, "detail": options.detail}
    answer = call(options, "POST", _SUPPRESSIONS, body)
    lines = [f"added {answer['added']} of {len(answer['data'])}", *map(_suppression_line, answer["data"])]
    return print_answer(options, answer, "\n".join(lines))


def _remove_suppression(options: argparse.Namespace) -> int:
    answer = call(options, "DELETE", f"{_SUPPRESSIONS}/{_suppression(options)}")
    return print_answer(options, answer, f"{answer['id']} is removed")


def _suppression(options: argparse.Namespace) -> str:
    if options.suppression.startswith("sup_"):
        return str(options.suppression)
    rows = list_rows(options, _SUPPRESSIONS, {"channel": options.channel, "address": options.suppression})
    if len(rows) != 1:
        count = "no suppression has" if not rows else f"{len(rows)} suppressions have"
        raise SluiceError(f"{count} the address {options.suppression!r}: `sluice suppression list` shows the ids")
    return str(rows[0]["id"])
