"""``/v1/packages``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.dependencies import ProvidersRead
from gateway.errors import NotFound
from gateway.kit.json_route import JsonRoute
from gateway.kit.v1_errors import errors_of
from sluice.model.message import Channel
from sluice.providers.contract import AnyPackage, ReceiptSource
from sluice.providers.registry import UnknownPackageError, credential_schema, get_package, installed

router = APIRouter(prefix="/v1/packages", tags=["packages"], route_class=JsonRoute)


class PackageResponse(BaseModel):
    """An installed package. ``idempotent``: a retry under the same key is accepted at most once."""

    name: str
    title: str
    channels: list[Channel]
    docs_url: str
    receipts: ReceiptSource
    idempotent: bool
    max_recipients: int
    supports_attachments: bool
    supports_html: bool
    credentials: dict[str, Any] = Field(description="JSON Schema of the credentials; secrets are `writeOnly`.")


class PackageListResponse(BaseModel):
    """All installed packages, by name."""

    data: list[PackageResponse]


@router.get("", responses=errors_of())
async def list_packages(principal: ProvidersRead) -> PackageListResponse:
    """The installed provider packages, each with the schema of its credentials."""
    return PackageListResponse(data=[_serialize(package) for _, package in sorted(installed().items())])


@router.get("/{name}", responses=errors_of())
async def get_package_by_name(name: str, principal: ProvidersRead) -> PackageResponse:
    """One package."""
    try:
        return _serialize(get_package(name))
    except UnknownPackageError:
        raise NotFound("There is no such package.") from None


def _serialize(package: AnyPackage) -> PackageResponse:
    return PackageResponse(
        name=package.name,
        title=package.title,
        channels=list(package.channels),
        docs_url=package.docs_url,
        receipts=package.receipts,
        idempotent=package.idempotent,
        max_recipients=package.max_recipients,
        supports_attachments=package.supports_attachments,
        supports_html=package.supports_html,
        credentials=credential_schema(package),
    )
