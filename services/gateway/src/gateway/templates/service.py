"""Templates of a project, for every API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from gateway.auth.principal import Principal
from gateway.errors import TemplateChanged, TemplateNotFound
from gateway.kit.transactions import transaction
from gateway.services import Services
from gateway.templates.sources import check_sources, compile_sources
from sluice.model import ids
from sluice.model.template import TemplateKind
from sluice.runtime.clock import utc_now
from sluice.store import audit, templates
from sluice.store.audit import Actor
from sluice.store.db import Db
from sluice.store.owners import Owned
from sluice.store.templates import StoredTemplate, TemplateSummary, TemplateVersion

NO_TEMPLATE = Owned.TEMPLATE.missing


async def create(
    services: Services, principal: Principal, *, kind: TemplateKind, name: str, sources: Mapping[str, str], actor: Actor
) -> StoredTemplate:
    """Create a template.

    Raises:
        ValidationFailed: a source is not a template, or does not fit the kind.
        Unavailable: PostgreSQL does not answer.
    """
    variables = await compile_sources(services.templates.engine, sources)
    check_sources(kind, sources)
    async with transaction(services.pool, principal.project_id) as db:
        template = await templates.create_template(
            db, principal.project_id, kind=kind, name=name, sources=sources, variables=variables, now=utc_now()
        )
        await _append(db, actor, template, "created", {"name": name, "kind": kind.value, "version": 1})
    return template


async def find(
    services: Services,
    principal: Principal,
    template_id: UUID,
    version: int | None = None,
    *,
    kind: TemplateKind | None = None,
) -> StoredTemplate:
    """A template in its current version, or in the named one. ``kind``: the one that it has to be of; None: any.

    Raises:
        TemplateNotFound: the project has no such template or version.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        found = await templates.find_template(db, principal.project_id, template_id, version)
    if found is None or kind not in (None, found.kind):
        raise TemplateNotFound(NO_TEMPLATE)
    return found


async def list_templates(
    services: Services, principal: Principal, *, kind: TemplateKind | None, limit: int, before: UUID | None
) -> list[TemplateSummary]:
    """The templates of the principal's project, newest first; of one kind if named.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await templates.list_templates(db, principal.project_id, kind=kind, limit=limit, before=before)


async def page_of_templates(
    services: Services, project_ids: Sequence[UUID], *, kind: TemplateKind, limit: int, offset: int
) -> tuple[list[TemplateSummary], int]:
    """The templates of one kind in several projects, newest first, after ``offset`` others; and how many there are.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, *project_ids) as db:
        return await templates.page_of_templates(db, project_ids, kind=kind, limit=limit, offset=offset)


async def list_versions(
    services: Services, principal: Principal, template_id: UUID, *, limit: int, before: int | None
) -> list[TemplateVersion]:
    """The versions of a template, newest first.

    Raises:
        TemplateNotFound: the project has no such template.
        Unavailable: PostgreSQL does not answer.
    """
    await find(services, principal, template_id)
    async with transaction(services.pool, principal.project_id) as db:
        return await templates.list_versions(db, principal.project_id, template_id, limit=limit, before=before)


async def update(
    services: Services,
    principal: Principal,
    template_id: UUID,
    *,
    name: str | None,
    changes: Mapping[str, str | None],
    replaces_data: bool,
    expected_version: int | None = None,
    kind: TemplateKind | None = None,
    actor: Actor,
) -> StoredTemplate:
    """Change a template; other sources make a new version.

    ``changes``: sources by part, None removes one. ``replaces_data``: the data that ``changes`` do not name is removed.
    ``kind``: the one that it has to be of; None: any.

    Raises:
        TemplateNotFound: the project has no such template.
        TemplateChanged: the current version is not ``expected_version``.
        ValidationFailed: a source is not a template, or does not fit the kind.
        Unavailable: PostgreSQL does not answer.
    """
    before = await find(services, principal, template_id, kind=kind)
    sources = _changed(before.sources, changes, replaces_data=replaces_data)
    variables = await compile_sources(services.templates.engine, sources)
    check_sources(before.kind, sources)
    async with transaction(services.pool, principal.project_id) as db:
        locked = await templates.lock_template(db, principal.project_id, template_id)
        if locked is None:
            raise TemplateNotFound(NO_TEMPLATE)
        # The sources were merged with those of `before`: a change since then would be lost.
        if locked.version not in (expected_version or before.version,):
            raise TemplateChanged(f"The current version is {locked.version}.", field="version")
        updated = await templates.update_template(
            db, locked, name=name or locked.name, sources=sources, variables=variables, now=utc_now()
        )
        await _append(db, actor, updated, "updated", {"name": updated.name, "version": updated.version})
    services.templates.store.forget(template_id)
    return updated


def _changed(sources: Mapping[str, str], changes: Mapping[str, str | None], *, replaces_data: bool) -> dict[str, str]:
    kept = {part: source for part, source in sources.items() if not (replaces_data and part.startswith("data."))}
    return {part: source for part, source in {**kept, **changes}.items() if source is not None}


async def delete(
    services: Services, principal: Principal, template_id: UUID, actor: Actor, *, kind: TemplateKind | None = None
) -> None:
    """Delete a template; no message is made from it any more. ``kind``: the one that it has to be of; None: any.

    Raises:
        TemplateNotFound: the project has no such template.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        name = await templates.delete_template(db, principal.project_id, template_id, kind=kind, now=utc_now())
        if name is None:
            raise TemplateNotFound(NO_TEMPLATE)
        await audit.append(
            db,
            actor,
            project_id=principal.project_id,
            action="deleted",
            noun="template",
            object_id=ids.encode_id("tpl", template_id),
            changes={"name": name},
            now=utc_now(),
        )
    services.templates.store.forget(template_id)


async def preview(
    services: Services,
    principal: Principal,
    template_id: UUID,
    *,
    version: int | None = None,
    kind: TemplateKind | None = None,
    variables: dict[str, Any],
) -> dict[str, str]:
    """What each part of a template yields with these variables. ``kind``: the one it has to be of; None: any.

    Raises:
        TemplateNotFound: the project has no such template or version.
        ValidationFailed: the limits are exceeded.
        Unavailable: PostgreSQL does not answer, or too many expensive templates wait.
    """
    template = await find(services, principal, template_id, version, kind=kind)
    return await services.templates.render(template.sources, variables)


async def preview_sources(
    services: Services, *, kind: TemplateKind, sources: Mapping[str, str], variables: dict[str, Any]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """What sources that are not saved yield, and the variables that they read.

    Raises:
        ValidationFailed: a source is not a template or does not fit the kind, or the limits are exceeded.
        Unavailable: too many expensive templates wait.
    """
    read = await compile_sources(services.templates.engine, sources)
    check_sources(kind, sources)
    return await services.templates.render(sources, variables), read


async def _append(db: Db, actor: Actor, template: StoredTemplate, action: str, changes: Mapping[str, Any]) -> None:
    await audit.append(
        db,
        actor,
        project_id=template.project_id,
        action=action,
        noun="template",
        object_id=ids.encode_id("tpl", template.id),
        changes=changes,
        now=utc_now(),
    )
