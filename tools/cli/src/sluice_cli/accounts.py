"""project, key, user, setup-link: projects, their keys and people, from the machine of the installation."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from sluice.runtime.errors import SluiceError

if TYPE_CHECKING:
    from uuid import UUID

    from sluice.store.projects import Project
    from sluice.store.users import User

    Work = Callable[[Any, argparse.Namespace], Awaitable[None]]

ROLES = ("owner", "admin", "developer", "viewer")
_FIRST_USER = "admin@localhost"


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    _register_projects(subparsers.add_parser("project", help="create and list projects").add_subparsers(required=True))
    _register_keys(subparsers.add_parser("key", help="create, list and revoke API keys").add_subparsers(required=True))
    _register_users(subparsers.add_parser("user", help="create and list people").add_subparsers(required=True))
    link = subparsers.add_parser(
        "setup-link",
        help="print a link that logs a person in once, within ten minutes",
        description="Without --email it is the first user, who is created if there is none. The user becomes the owner "
        "of the projects that have no members.",
    )
    link.add_argument("--email", help="the person")
    link.add_argument("--anywhere", action="store_true", help="let the link work from other machines too")
    link.set_defaults(run=_run(_setup_link))


def _register_projects(commands: Any) -> None:
    create = commands.add_parser("create", help="create a project")
    create.add_argument("name")
    create.add_argument("--slug", help="its name in paths; by default the words of the name")
    create.add_argument("--owner", metavar="EMAIL", help="an existing user who becomes its owner")
    create.set_defaults(run=_run(_create_project))
    commands.add_parser("list", help="list the projects").set_defaults(run=_run(_list_projects))


def _register_keys(commands: Any) -> None:
    create = commands.add_parser("create", help="create an API key and print it, this once")
    create.add_argument("project", metavar="SLUG")
    create.add_argument("--name", default="command line")
    create.add_argument("--test", action="store_true", help="its messages go to the sandbox")
    create.set_defaults(run=_run(_create_key))
    listing = commands.add_parser("list", help="list the active keys of a project")
    listing.add_argument("project", metavar="SLUG")
    listing.set_defaults(run=_run(_list_keys))
    revoke = commands.add_parser("revoke", help="revoke an API key")
    revoke.add_argument("project", metavar="SLUG")
    revoke.add_argument("key", metavar="KEY_ID", help="as `sluice key list` shows it")
    revoke.set_defaults(run=_run(_revoke_key))


def _register_users(commands: Any) -> None:
    create = commands.add_parser("create", help="create a person, and print a link to set the password")
    create.add_argument("email")
    create.add_argument("--name", default="")
    create.add_argument("--project", metavar="SLUG", help="a project of which the person becomes a member")
    create.add_argument("--role", choices=ROLES, default="developer", help="in that project; default: developer")
    create.set_defaults(run=_run(_create_user))
    commands.add_parser("list", help="list the people").set_defaults(run=_run(_list_users))
    reset = commands.add_parser("reset-password", help="print a link to set a new password, within an hour")
    reset.add_argument("email")
    reset.set_defaults(run=_run(_reset_password))


def _run(work: Work) -> Callable[[argparse.Namespace], int]:
    """A command that does ``work`` in one transaction."""

    async def transact(options: argparse.Namespace) -> int:
        from sluice_cli.context import database

        async with database() as connection, connection.transaction():
            await work(connection, options)
        return 0

    return lambda options: asyncio.run(transact(options))


async def _create_project(db: Any, options: argparse.Namespace) -> None:
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
        raise SluiceError(f"the slug {slug} is taken")
    owner = await _confirmed_user(db, options.owner) if options.owner else None
    project = await projects.create_project(db, organization=options.name, slug=slug, name=options.name, now=utc_now())
    if owner is not None:
        await memberships.add_member(db, project.id, owner.id, Role.OWNER, now=utc_now())
    await _note(db, project.id, "created", "project", "proj", project.id, name=options.name, slug=slug)
    print(slug)


async def _list_projects(db: Any, _: argparse.Namespace) -> None:
    from sluice.store.projects import list_projects

    for project in sorted(await list_projects(db), key=lambda project: project.slug):
        print(f"{project.slug}\t{project.name}")


async def _create_key(db: Any, options: argparse.Namespace) -> None:
    from sluice.runtime.clock import utc_now
    from sluice.store import api_keys

    project = await _project(db, options.project)
    key, summary = await api_keys.create_named_key(
        db, project.id, name=options.name, is_test=options.test, now=utc_now()
    )
    await _note(db, project.id, "created", "key", "key", summary.id, name=options.name, is_test=options.test)
    print(key)


async def _list_keys(db: Any, options: argparse.Namespace) -> None:
    from sluice.model.ids import encode_id
    from sluice.store import api_keys

    project, before = await _project(db, options.project), None
    while found := await api_keys.list_summaries(db, project.id, limit=100, before=before):
        for key in found:
            state = "" if key.is_active else "\tinactive"
            print(f"{encode_id('key', key.id)}\t{key.begins_with}\t{key.created_at:%Y-%m-%d}\t{key.name}{state}")
        before = found[-1].id


async def _revoke_key(db: Any, options: argparse.Namespace) -> None:
    from sluice.model.ids import InvalidIdError, decode_id
    from sluice.runtime.clock import utc_now
    from sluice.store import api_keys

    project = await _project(db, options.project)
    try:
        key_id = decode_id("key", options.key)
    except InvalidIdError as error:
        raise SluiceError(str(error)) from None
    name = await api_keys.revoke_key(db, project.id, key_id, now=utc_now())
    if name is None:
        raise SluiceError(f"the project {project.slug} has no key with this id")
    await _note(db, project.id, "revoked", "key", "key", key_id, name=name)
    print(f"revoked: {name}")


async def _create_user(db: Any, options: argparse.Namespace) -> None:
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
    await _print_link(db, user, Purpose.PASSWORD_RESET, "reset-password")


async def _list_users(db: Any, _: argparse.Namespace) -> None:
    from sluice.store.users import list_users

    for user in await list_users(db):
        print(f"{user.email}\t{user.name}")


async def _reset_password(db: Any, options: argparse.Namespace) -> None:
    from sluice.store.login_links import Purpose

    await _print_link(db, await _user(db, options.email), Purpose.PASSWORD_RESET, "reset-password")


async def _setup_link(db: Any, options: argparse.Namespace) -> None:
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
    await _print_link(db, user, Purpose.SETUP, "setup", loopback_only=not options.anywhere)


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


async def _print_link(db: Any, user: User, purpose: Any, page: str, *, loopback_only: bool = False) -> None:
    from sluice.runtime.clock import utc_now
    from sluice.store.login_links import create_link
    from sluice_cli.context import api_url, environment

    token = await create_link(db, user.id, purpose, now=utc_now(), loopback_only=loopback_only)
    await _note(db, None, f"{purpose.value}_link_created", "user", "usr", user.id)
    base = environment().get("SLUICE_PUBLIC_URL") if not loopback_only else None
    print(f"{(base or api_url()).rstrip('/')}/{page}#{token}")


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
