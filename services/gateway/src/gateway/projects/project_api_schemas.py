"""The bodies of ``/projects`` of the project API."""

from __future__ import annotations

from pydantic import ConfigDict

from gateway.kit.camel_case import CamelRequest, CamelResponse
from gateway.kit.fields import Short, Timestamp
from gateway.kit.project_api_roles import HeldRole


class CreateProjectRequest(CamelRequest):
    """A new project. Names need not be unique."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "Web shop"}})

    name: Short


class ProjectResponse(CamelResponse):
    """A project."""

    id: str
    name: str
    created_at: Timestamp


class OwnProjectResponse(ProjectResponse):
    """A project with the person's role in it."""

    role: HeldRole
