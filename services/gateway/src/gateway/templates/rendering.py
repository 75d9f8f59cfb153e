"""Rendering of stored templates: a step between a send command and its message, for every source of requests."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from gateway.errors import Unavailable, UnknownTemplate, ValidationFailed
from gateway.ingest.command import SendCommand, TemplateUse
from gateway.kit.database import database_errors
from gateway.kit.fields import storable
from gateway.templates.sources import is_html
from sluice.model.ids import InvalidIdError, decode_id
from sluice.model.message import Channel
from sluice.model.template import DATA_PREFIX, TemplateKind
from sluice.runtime.batching import Batcher, QueueFullError
from sluice.store import templates
from sluice.store.config_cache import ConfigCache
from sluice.store.db import Pool, rows_of
from sluice.store.templates import StoredTemplate
from sluice.templates.limits import DEFAULT_LIMITS, SMS_LIMITS, Limits, TemplateError
from sluice.templates.process_pool import RendererBusyError
from sluice.templates.renderer import Renderer

_MAX_KEPT = 32 << 20  # characters of sources in memory
_MAX_LOADING = 5_000  # look-ups that wait
_MAX_SUBJECT = 998  # characters, as of a request
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_UNKNOWN = "template_id: the project has no such template"

_Key = tuple[UUID, UUID]  # project, template


class TemplateStore:
    """The current versions of templates, read once and kept until they change; concurrent look-ups share a query."""

    def __init__(self, pool: Pool, config: ConfigCache) -> None:
        self._pool = pool
        self._kept: OrderedDict[_Key, StoredTemplate] = OrderedDict()
        self._size = 0
        self._changes = 0  # notified so far: what was read before one is not kept
        self._batcher: Batcher[_Key, StoredTemplate | None] = Batcher(
            self._load, name="templates", size=100, parallel=2, limit=_MAX_LOADING
        )
        config.watch_templates(self.forget)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[TemplateStore]:
        """Look templates up until the block ends."""
        async with self._batcher.running():
            yield self

    def forget(self, template_id: UUID | None) -> None:
        """The template has changed; None: any may have."""
        self._changes += 1
        for key in [key for key in self._kept if template_id is None or key[1] == template_id]:
            self._size -= _size(self._kept.pop(key))

    async def find(self, project_id: UUID, template_id: UUID) -> StoredTemplate | None:
        """The current version; None if the project has no such template.

        Raises:
            Unavailable: PostgreSQL does not answer.
        """
        key = (project_id, template_id)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        changes = self._changes
        try:
            with database_errors():
                found = await self._batcher.submit(key)
        except QueueFullError:
            raise Unavailable("Too many requests are waiting for the database. Retry later.") from None
        if found is not None and changes == self._changes and key not in self._kept:
            self._kept[key] = found
            self._size += _size(found)
            while self._size > _MAX_KEPT:
                self._size -= _size(self._kept.popitem(last=False)[1])
        return found

    async def _load(self, keys: Sequence[_Key]) -> list[StoredTemplate | None]:
        async with rows_of(self._pool, {project_id for project_id, _ in keys}) as db:
            found = await templates.find_current(db, list(dict.fromkeys(keys)))
        return [found.get(key) for key in keys]


def _size(template: StoredTemplate) -> int:
    return sum(len(source) for source in template.sources.values())


class TemplateRenderer:
    """Renders templates for messages and for previews."""

    def __init__(self, pool: Pool, config: ConfigCache) -> None:
        self.store = TemplateStore(pool, config)
        self.engine = Renderer()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[TemplateRenderer]:
        """Render until the block ends."""
        async with self.store.running():
            try:
                yield self
            finally:
                await self.engine.close()

    async def apply(self, command: SendCommand, use: TemplateUse, project_id: UUID) -> SendCommand:
        """The command with the content that its template yields, and with the template's id and version.

        Raises:
            ValidationFailed: the project has no such template, it does not fit the channel, or it yields nothing that
                can be sent with these variables.
            Unavailable: PostgreSQL does not answer, or too many expensive templates wait.
        """
        template = await self._find(project_id, use.id)
        if command.channel not in template.kind.channels:
            channels = ", ".join(template.kind.channels)
            raise ValidationFailed(
                f"template_id: is a template of kind {template.kind}, for {channels}", field="template_id"
            )
        given = {name for name, value in command.content.items() if value}
        sources = {part: source for part, source in template.sources.items() if part not in given}
        limits = SMS_LIMITS if command.channel is Channel.SMS else DEFAULT_LIMITS
        parts = await self.render(sources, use.variables, limits=limits)
        content = _CONTENTS[template.kind](command.content, parts)
        return command._replace(
            content=content, template=None, template_id=template.id, template_version=template.version
        )

    async def render(
        self, sources: Mapping[str, str], variables: dict[str, Any], *, limits: Limits = DEFAULT_LIMITS
    ) -> dict[str, str]:
        """The output of each part; a subject in one line.

        Raises:
            ValidationFailed: the limits are exceeded, or the output cannot be stored.
            Unavailable: too many expensive templates wait.
        """
        names = list(sources)
        try:
            texts = await self.engine.render_all(
                [(sources[name], is_html(name)) for name in names], variables, limits=limits
            )
        except TemplateError as error:
            raise _fault(names[error.part], str(error)) from None
        except RendererBusyError as error:
            raise Unavailable(f"{error}. Retry later.") from None
        parts = dict(zip(names, texts, strict=True))
        for name, text in parts.items():
            try:
                storable(text)
            except ValueError as error:
                raise _fault(name, str(error)) from None
        if "subject" in parts:
            parts["subject"] = _CONTROLS.sub(" ", parts["subject"]).strip()
        return parts

    async def _find(self, project_id: UUID, text: str) -> StoredTemplate:
        try:
            found = await self.store.find(project_id, decode_id("tpl", text))
        except InvalidIdError:
            found = None
        if found is None:
            raise UnknownTemplate(_UNKNOWN, field="template_id")
        return found


def _fault(part: str, text: str) -> ValidationFailed:
    """A fault of an output. The template is right, so the variables are named as the field."""
    return ValidationFailed(f"variables: {part} of the template: {text}", field="variables")


def _email(content: Mapping[str, Any], parts: Mapping[str, str]) -> dict[str, Any]:
    subject = content["subject"] or parts.get("subject")
    if subject is None:
        raise ValidationFailed("subject: is required, because the template has none", field="subject")
    if not 0 < len(subject) <= _MAX_SUBJECT:
        raise _fault("subject", f"is blank, or has more than {_MAX_SUBJECT} characters")
    html, text = parts.get("html") or None, parts.get("text") or None
    if html is None and text is None:
        raise _fault("html", "and text: are empty")
    for index, attachment in enumerate(content["attachments"]):
        if attachment["content_id"] is not None and html is None:
            field = f"attachments.{index}.content_id"
            raise ValidationFailed(f"{field}: needs html, which refers to it", field=field)
    return {**content, "subject": subject, "html": html, "text": text}


def _text(content: Mapping[str, Any], parts: Mapping[str, str]) -> dict[str, Any]:
    if not parts["text"].strip():
        raise _fault("text", "is blank")
    return {**content, "text": parts["text"]}


def _push(content: Mapping[str, Any], parts: Mapping[str, str]) -> dict[str, Any]:
    """Data of the request is added to the template's, and replaces what has the same key."""
    title = content["title"] or parts.get("subject") or None
    text = parts.get("text") or None
    data = {part.removeprefix(DATA_PREFIX): value for part, value in parts.items() if part.startswith(DATA_PREFIX)}
    if title is not None and len(title) > _MAX_SUBJECT:
        raise _fault("subject", f"has more than {_MAX_SUBJECT} characters")
    if title is None and text is None and not data:
        raise _fault("text", "is empty")
    return {**content, "title": title, "text": text, "data": data | content["data"]}


_CONTENTS = {TemplateKind.EMAIL: _email, TemplateKind.TEXT: _text, TemplateKind.PUSH: _push}
