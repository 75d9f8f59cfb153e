"""project, key, user, setup-link: projects, their keys and people.

With a session these commands work over the API, as the person whose session it is. Without one they work on the
database, from the machine of the installation: that is how the first project, key and person are made, and how people
get links, for which there is no API.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sluice.runtime.errors import SluiceError
from sluice_cli.api_command import Row, call, list_rows, print_answer, print_rows
from sluice_cli.send import segment

if TYPE_CHECKING:
    from uuid import UUID

    from sluice.store.api_keys import KeySummary
    from sluice.store.projects import Project
    from sluice.store.users import User

    Work = Callable[[Any, argparse.Namespace], Awaitable[Any]]
    Request = Callable[[argparse.Namespace], Any]
    Show = Callable[[argparse.Namespace, Any], int]

ROLES = ("owner", "admin", "developer", "viewer")
_FIRST_USER = "admin@localhost"
_PROJECTS = "/v1/projects"


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    _register_projects(subparsers.add_parser("project", help="create and list projects").add_subparsers(required=True))
    _register_keys(subparsers.add_parser("key", help="create, list and revoke API keys").add_subparsers(required=True))
    _register_users(subparsers.add_parser("user", help="create and list people").add_subparsers(required=True))
    link = subparsers.add_parser(
        "setup-link",
        help="print a link that logs a person in once, within ten minutes",
        description="Without --email it is the first user, who is created if there is none. The user becomes the owner "
        "of the projects that have no members. The link works from the machine of the gateway only, unless --anywhere "
        "is given.",
    )
    link.add_argument("--email", help="the person")
    link.add_argument(
        "--anywhere", action="store_true", help="let the link work from other machines too, at SLUICE_PUBLIC_URL"
    )
    link.add_argument("--json", action="store_true", help="print JSON")
    link.set_defaults(run=_run(_setup_link, _show("link")))


def _register_projects(commands: Any) -> None:
    create = _add(commands, "create", "create a project", _run(_create_project, _show("slug"), _post_project))
    create.add_argument("name")
    create.add_argument("--slug", help="its name in paths; by default the words of the name")
    create.add_argument("--owner", metavar="EMAIL", help="without a session: an existing user who becomes its owner")
    create.set_defaults(project=None)
    listing = _add(commands, "list", "list the projects", _run(_list_projects, _show_projects, _get_projects))
    listing.set_defaults(project=None)


def _register_keys(commands: Any) -> None:
    text = "create an API key and print it, this once"
    create = _add(commands, "create", text, _run(_create_key, _show("key"), _post_key))
    listing = _add(commands, "list", "list the keys of a project", _run(_list_keys, _show_keys, _get_keys))
    revoke = _add(commands, "revoke", "revoke an API key", _run(_revoke_key, _show_revoked, _delete_key))
    for parser in (create, listing, revoke):
        parser.add_argument("project", metavar="SLUG")
    create.add_argument("--name", default="command line")
    create.add_argument("--test", action="store_true", help="its messages go to the sandbox")
    revoke.add_argument("key_id", metavar="KEY_ID", help="as `sluice key list` shows it")


def _register_users(commands: Any) -> None:
    create = commands.add_parser("create", help="create a person, and print a link to set the password")
    create.add_argument("email")
    create.add_argument("--name", default="")
    create.add_argument("--project", metavar="SLUG", help="a project of which the person becomes a member")
    create.add_argument("--role", choices=ROLES, default="developer", help="in that project; default: developer")
    create.set_defaults(run=_run(_create_user, _show("link")))
    listing = commands.add_parser("list", help="list the people")
    listing.set_defaults(run=_run(_list_users, _show_users))
    reset = commands.add_parser("reset-password", help="print a link to set a new password, within an hour")
    reset.add_argument("email")
    reset.set_defaults(run=_run(_reset_password, _show("link")))
    for parser in (create, listing, reset):
        parser.add_argument("--json", action="store_true", help="print JSON")


def _add(commands: Any, name: str, text: str, run: Callable[[argparse.Namespace], int]) -> Any:
    parser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Works over the API with a "
        "session, and without one on the database of this installation.",
    )
    parser.add_argument("--key", help="ses_… of a session (default: SLUICE_API_KEY, if that is one)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    return parser


def _run(work: Work, show: Show, over_api: Request | None = None) -> Callable[[argparse.Namespace], int]:
    """A command that asks the API where there is a session, and else does ``work`` in one transaction."""

    async def transact(options: argparse.Namespace) -> Any:
        from sluice_cli.context import database

        async with database() as connection, connection.transaction():
            return await work(connection, options)

    def run(options: argparse.Namespace) -> int:
        if over_api is not None and _has_session(options):
            return show(options, over_api(options))
        return show(options, asyncio.run(transact(options)))

    return run


def _has_session(options: argparse.Namespace) -> bool:
    """Whether the command works over the API.

    Raises:
        SluiceError: ``--key`` is no session; an API key belongs to one project and administers none.
    """
    if options.key is None:
        return os.environ.get("SLUICE_API_KEY", "").startswith("ses_")
    if not options.key.startswith("ses_"):
        raise SluiceError("--key: needs a session (ses_…); an API key cannot manage projects and keys")
    return True


# -- over the API ------------------------------------------------------------------------------------------------------


def _post_project(options: argparse.Namespace) -> Row:
    if options.owner:
        raise SluiceError("--owner: over the API the owner of a new project is the person of the session")
    body = {"name": options.name} | ({"slug": options.slug} if options.slug else {})
    row: Row = call(options, "POST", _PROJECTS, body)
    return row


def _get_projects(options: argparse.Namespace) -> list[Row]:
    return list_rows(options, _PROJECTS)


def _post_key(options: argparse.Namespace) -> Row:
    row: Row = call(options, "POST", _keys(options), {"name": options.name, "test": options.test})
    return row


def _get_keys(options: argparse.Namespace) -> list[Row]:
    return list_rows(options, _keys(options))


def _delete_key(options: argparse.Namespace) -> Row:
    row: Row = call(options, "DELETE", f"{_keys(options)}/{segment(options.key_id)}")
    return row


def _keys(options: argparse.Namespace) -> str:
    return f"{_PROJECTS}/{segment(options.project)}/keys"


# -- output ------------------------------------------------------------------------------------------------------------


def _show(field: str) -> Show:
    return lambda options, answer: print_answer(options, answer, answer[field])


def _show_projects(options: argparse.Namespace, rows: list[Row]) -> int:
    rows = sorted(rows, key=lambda row: str(row["slug"]))
    return print_rows(options, rows, lambda row: (row["slug"], row["name"]), noun="project")


def _show_keys(options: argparse.Namespace, rows: list[Row]) -> int:
    return print_rows(options, rows, _key_line, noun="key")


def _key_line(row: Row) -> list[str]:
    return [row["id"], row["prefix"], row["created_at"][:10], row["name"], *([] if row["active"] else ["inactive"])]


def _show_revoked(options: argparse.Namespace, answer: Row) -> int:
    return print_answer(options, answer, f"revoked: {answer.get('name', answer['id'])}")


def _show_users(options: argparse.Namespace, rows: list[Row]) -> int:
    return print_rows(options, rows, lambda row: (row["email"], row["name"]), noun="user")


# -- on the database ---------------------------------------------------------------------------------------------------


async def _create_project(db: Any, options: argparse.Namespace) -> Row:
    from sluice.model.ids import encode_id
    from sluice.model.roles import Role
    from sluice.model.slug import is_slug, slug_of
    from sluice.runtime.clock import utc_now
    from sluice.store import memberships, projects

    try:
        slug = options.slug or slug_of(options.name)
    except ValueError as error:
        raise SluiceError(f"--slug {error}") from None
    if not is_slug(slug):
        raise SluiceError("--slug: lower-case letters, digits and hyphens, at most 63")
    if await projects.find_project_by_slug(db, slug) is not None:
        raise SluiceError(f"the slug {slug} is taken: give another one with --slug")
    owner = await _confirmed_user(db, options.owner) if options.owner else None
    project = await projects.create_project(db, organization=options.name, slug=slug, name=options.name, now=utc_now())
    if owner is not None:
        await memberships.add_member(db, project.id, owner.id, Role.OWNER, now=utc_now())
    await _note(db, project.id, "created", "project", "proj", project.id, name=options.name, slug=slug)
    return {"id": encode_id("proj", project.id), "slug": slug, "name": options.name}


async def _list_projects(db: Any, _: argparse.Namespace) -> list[Row]:
    from sluice.model.ids import encode_id
    from sluice.store.projects import list_projects

    found = await list_projects(db)
    return [{"id": encode_id("proj", one.id), "slug": one.slug, "name": one.name} for one in found]


async def _create_key(db: Any, options: argparse.Namespace) -> Row:
    from sluice.runtime.clock import utc_now
    from sluice.store import api_keys

    project = await _project(db, options.project)
    key, summary = await api_keys.create_named_key(
        db, project.id, name=options.name, is_test=options.test, now=utc_now()
    )
    await _note(db, project.id, "created", "key", "key", summary.id, name=options.name, is_test=options.test)
    return {**_key_row(summary), "key": key}


async def _list_keys(db: Any, options: argparse.Namespace) -> list[Row]:
    from sluice.store import api_keys

    project, before, rows = await _project(db, options.project), None, []
    while found := await api_keys.list_summaries(db, project.id, limit=100, before=before):
        rows += [_key_row(key) for key in found]
        before = found[-1].id
    return rows


def _key_row(key: KeySummary) -> Row:
    from sluice.model.ids import encode_id

    return {
        "id": encode_id("key", key.id),
        "name": key.name,
        "prefix": key.begins_with,
        "test": key.is_test,
        "active": key.is_active,
        "created_at": key.created_at.isoformat(),
    }


async def _revoke_key(db: Any, options: argparse.Namespace) -> Row:
    from sluice.model.ids import InvalidIdError, decode_id
    from sluice.runtime.clock import utc_now
    from sluice.store import api_keys

    project = await _project(db, options.project)
    try:
        key_id = decode_id("key", options.key_id)
    except InvalidIdError as error:
        raise SluiceError(str(error)) from None
    name = await api_keys.revoke_key(db, project.id, key_id, now=utc_now())
    if name is None:
        raise SluiceError(f"the project {project.slug} has no key with this id")
    await _note(db, project.id, "revoked", "key", "key", key_id, name=name)
    return {"id": options.key_id, "name": name, "deleted": True}


async def _create_user(db: Any, options: argparse.Namespace) -> Row:
    from sluice.model.roles import Role
    from sluice.runtime.clock import utc_now
    from sluice.store import memberships
    from sluice.store.login_links import Purpose

    project = await _project(db, options.project) if options.project else None
    user = await _new_user(db, options.email, options.name)
    if project is not None:
        role = Role(options.role)
        await memberships.add_member(db, project.id, user.id, role, now=utc_now())
        await _note(db, project.id, "added", "member", "usr", user.id, role=role.value)
    return await _new_link(db, user, Purpose.PASSWORD_RESET, "reset-password")


async def _list_users(db: Any, _: argparse.Namespace) -> list[Row]:
    from sluice.model.ids import encode_id
    from sluice.store.users import list_users

    return [{"id": encode_id("usr", one.id), "email": one.email, "name": one.name} for one in await list_users(db)]


async def _reset_password(db: Any, options: argparse.Namespace) -> Row:
    from sluice.store.login_links import Purpose

    return await _new_link(db, await _user(db, options.email), Purpose.PASSWORD_RESET, "reset-password")


async def _setup_link(db: Any, options: argparse.Namespace) -> Row:
    from sluice.runtime.clock import utc_now
    from sluice.store import memberships, users
    from sluice.store.login_links import Purpose

    if options.email:
        user = await _confirmed_user(db, options.email)
    else:
        found = [user for user in await users.list_users(db) if user.is_confirmed]
        user = found[0] if found else await _new_user(db, _FIRST_USER, "")
    for project_id in await memberships.adopt_projects(db, user.id, now=utc_now()):
        await _note(db, project_id, "added", "member", "usr", user.id, role="owner")
    return await _new_link(db, user, Purpose.SETUP, "setup", loopback_only=not options.anywhere)


async def _new_user(db: Any, email: str, name: str) -> User:
    from sluice.model.address import InvalidAddressError, parse_address
    from sluice.runtime.clock import utc_now
    from sluice.store import users

    try:
        bare = parse_address(email).bare
        user = await users.create_user(db, bare, name=name, now=utc_now())
    except InvalidAddressError as error:
        raise SluiceError(f"{email[:100]!r} {error}") from None
    if user is None:
        raise SluiceError(f"there is a user with the address {bare} already")
    await _note(db, None, "created", "user", "usr", user.id)
    return user


async def _new_link(db: Any, user: User, purpose: Any, page: str, *, loopback_only: bool = False) -> Row:
    from sluice.model.ids import encode_id
    from sluice.runtime.clock import utc_now
    from sluice.store.login_links import create_link

    base = _base_of_links(loopback_only=loopback_only)
    token = await create_link(db, user.id, purpose, now=utc_now(), loopback_only=loopback_only)
    await _note(db, None, f"{purpose.value}_link_created", "user", "usr", user.id)
    return {"id": encode_id("usr", user.id), "email": user.email, "link": f"{base}/{page}#{token}"}


def _base_of_links(*, loopback_only: bool) -> str:
    """Where a browser finds the gateway.

    Raises:
        SluiceError: a link with the address that is known here could not work.
    """
    from sluice_cli.context import api_url, environment

    local = api_url()
    host = urlsplit(local).hostname or ""
    if loopback_only:
        # Through a published port of a container, the gateway sees the address of a bridge.
        if not _is_loopback(host):
            raise SluiceError(
                f"the gateway is at {local}, not on this machine's loopback, where alone the link would work: use "
                "--anywhere, with SLUICE_PUBLIC_URL as the address that browsers reach"
            )
        return local
    public = environment().get("SLUICE_PUBLIC_URL")
    if public is None and not _is_loopback(host) and "." not in host and ":" not in host:
        raise SluiceError(f"no browser resolves {local}: set SLUICE_PUBLIC_URL to the address that browsers reach")
    return (public or local).rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def _project(db: Any, slug: str) -> Project:
    from sluice.store.projects import find_project_by_slug

    found = await find_project_by_slug(db, slug)
    if found is None:
        raise SluiceError(f"there is no project {slug}: `sluice project list` shows them")
    return found


async def _user(db: Any, email: str) -> User:
    from sluice.model.address import InvalidAddressError
    from sluice.store.users import find_user_by_email

    try:
        found = await find_user_by_email(db, email)
    except InvalidAddressError as error:
        raise SluiceError(f"{email[:100]!r} {error}") from None
    if found is None:
        raise SluiceError(f"there is no user with the address {email}: `sluice user list` shows them")
    return found


async def _confirmed_user(db: Any, email: str) -> User:
    """A user who may own projects: a sign-up alone does not prove that the address is the person's."""
    user = await _user(db, email)
    if not user.is_confirmed:
        raise SluiceError(
            f"{user.email} is an address that signed up and is not confirmed: the link of"
            " `sluice user reset-password` confirms it"
        )
    return user


async def _note(
    db: Any, project_id: UUID | None, action: str, noun: str, prefix: str, object_id: UUID, **changes: Any
) -> None:
    from sluice.model.ids import encode_id
    from sluice.runtime.clock import utc_now
    from sluice.store import audit

    await audit.append(
        db,
        audit.OPERATOR,
        project_id=project_id,
        action=action,
        noun=noun,
        object_id=encode_id(prefix, object_id),
        changes=changes,
        now=utc_now(),
    )
