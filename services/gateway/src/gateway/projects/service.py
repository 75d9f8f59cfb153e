"""Projects of people, for every API."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import asyncpg

from gateway.auth.principal import KeyPrincipal, Principal
from gateway.errors import NotFound, SlugTaken, ValidationFailed
from gateway.kit.database import database_errors
from gateway.kit.responses import project_id_text
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.model.ids import uuid7
from sluice.model.roles import Role
from sluice.model.slug import slug_of
from sluice.runtime.clock import utc_now
from sluice.store import audit, memberships, projects
from sluice.store.audit import Actor
from sluice.store.projects import Project
from sluice.store.sessions import Session

_NO_PROJECT = "There is no such project, or you are not a member of it."
_SETTINGS = ("name", "slug", "default_sender", "routing_policy", "verified_senders_only")
_SLUG_STEM, _SLUG_TAIL = 40, 4  # letters that stay, random bytes behind them


def _slug_of(name: str) -> str:
    try:
        return slug_of(name)
    except ValueError as error:
        raise ValidationFailed(f"slug: {error}", field="slug") from None


@contextmanager
def _slug_errors(slug: str) -> Iterator[None]:
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "projects_slug_taken":
            raise
        raise SlugTaken(f"The slug {slug} is taken.", field="slug") from None


async def create(services: Services, person: Session, *, name: str, slug: str | None, actor: Actor) -> Project:
    """Create a project, whose owner is the person.

    Raises:
        SlugTaken: another project has the slug.
        ValidationFailed: no slug is given and none can be made of the name.
        Unavailable: PostgreSQL does not answer.
    """
    chosen, now, project_id = slug or _slug_of(name), utc_now(), uuid7()
    with _slug_errors(chosen):
        async with transaction(services.pool, project_id) as db:
            project = await projects.create_project(
                db, organization=name, slug=chosen, name=name, now=now, project_id=project_id
            )
            await memberships.add_member(db, project.id, person.user_id, Role.OWNER, now=now)
            await audit.append(
                db,
                actor,
                project_id=project.id,
                action="created",
                noun="project",
                object_id=project_id_text(project.id),
                changes={"name": name, "slug": chosen},
                now=now,
            )
    services.accounts.sessions.forget(person.user_id)
    return project


async def create_named(services: Services, person: Session, name: str, actor: Actor) -> Project:
    """Create a project as :func:`create`, where the person chooses no slug: that of the name, or one beside it.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    try:
        slug = slug_of(name)
    except ValueError:
        slug = _another_slug("project")
    try:
        return await create(services, person, name=name, slug=slug, actor=actor)
    except SlugTaken:
        return await create(services, person, name=name, slug=_another_slug(slug), actor=actor)


def _another_slug(slug: str) -> str:
    return f"{slug[:_SLUG_STEM].rstrip('-')}-{secrets.token_hex(_SLUG_TAIL)}"


async def list_of_person(
    services: Services, person: Session, *, limit: int, before: UUID | None = None, offset: int = 0
) -> list[Project]:
    """The person's projects, newest first, those older than ``before``, without the first ``offset`` of these.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    ids = [role.project_id for role in person.roles]
    with database_errors():
        return await projects.list_projects_of(services.pool, ids, limit=limit, before=before, offset=offset)


async def find(services: Services, principal: Principal) -> Project:
    """The project of the principal.

    Raises:
        NotFound: it was deleted.
        Unavailable: PostgreSQL does not answer.
    """
    with database_errors():
        found = await projects.list_projects(services.pool, principal.project_id)
    if not found:
        raise NotFound(_NO_PROJECT)
    return found[0]


async def update(services: Services, principal: Principal, changes: Mapping[str, Any], actor: Actor) -> Project:
    """Change fields of the principal's project, those of ``_SETTINGS``.

    Raises:
        SlugTaken: another project has the slug.
        NotFound: it was deleted.
        Unavailable: PostgreSQL does not answer.
    """
    with _slug_errors(str(changes.get("slug"))):
        async with transaction(services.pool, principal.project_id) as db:
            await memberships.lock_members(db, principal.project_id)
            found = await projects.list_projects(db, principal.project_id)
            if not found:
                raise NotFound(_NO_PROJECT)
            fields = {name: getattr(found[0], name) for name in _SETTINGS}
            changed = {name: value for name, value in changes.items() if value != fields[name]}
            if not changed:
                return found[0]
            fields |= changed
            updated = await projects.update_project(db, principal.project_id, **fields)
            assert updated is not None  # the row is locked
            await audit.append(
                db,
                actor,
                project_id=principal.project_id,
                action="updated",
                noun="project",
                object_id=project_id_text(principal.project_id),
                changes=changed,
                now=utc_now(),
            )
    _forget_roles(services, principal)
    return updated


async def delete(services: Services, principal: Principal, actor: Actor) -> None:
    """Delete the principal's project with its keys, providers, members and invitations.

    Raises:
        NotFound: it was deleted already.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        now = utc_now()
        if not await projects.delete_project(db, principal.project_id, now=now):
            raise NotFound(_NO_PROJECT)
        await audit.append(
            db,
            actor,
            project_id=principal.project_id,
            action="deleted",
            noun="project",
            object_id=project_id_text(principal.project_id),
            now=now,
        )
    _forget_roles(services, principal)


def _forget_roles(services: Services, principal: Principal) -> None:
    """The next request of the person sees its own change, whenever the notification of it arrives."""
    if not isinstance(principal, KeyPrincipal):
        services.accounts.sessions.forget(principal.user_id)
