"""``/v1/domains``."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from fastapi import APIRouter, Request

from gateway.dependencies import DomainsRead, DomainsWrite, ServicesDep
from gateway.domains import service
from gateway.domains.checker import RecordStatus
from gateway.domains.v1_schemas import CreateDomainRequest, DomainRecordResponse, DomainResponse, DomainStatus
from gateway.errors import DomainExists, DomainInUse, LimitReached, NotFound
from gateway.kit.json_route import JsonRoute
from gateway.kit.pagination import Page, PageDep
from gateway.kit.public_ids import read_id
from gateway.kit.responses import rfc3339
from gateway.kit.v1_errors import errors_of
from gateway.projects.v1_schemas import DeletedResponse
from gateway.services import Services
from sluice.model import ids
from sluice.store.domains import Domain

router = APIRouter(prefix="/v1/domains", tags=["domains"], route_class=JsonRoute)


@router.post("", status_code=201, responses=errors_of(DomainExists, LimitReached))
async def create_domain(
    body: CreateDomainRequest, request: Request, principal: DomainsWrite, services: ServicesDep
) -> DomainResponse:
    """Add a domain. The answer has the DNS records that its owner adds."""
    actor = services.accounts.access.actor(request, principal)
    return _serialize(await service.create(services, principal, body.domain, actor), services)


@router.get("", responses=errors_of())
async def list_domains(principal: DomainsRead, page: PageDep, services: ServicesDep) -> Page[DomainResponse]:
    """The domains of the project, newest first."""
    rows = await service.list_domains(services, principal, limit=page.fetch, before=page.before)
    return page.page(rows, lambda row: row.id, lambda row: _serialize(row, services))


@router.get("/{domain_id}", responses=errors_of())
async def get_domain(domain_id: str, principal: DomainsRead, services: ServicesDep) -> DomainResponse:
    """One domain, as the newest check has found it."""
    return _serialize(await service.find(services, principal, _read_id(domain_id)), services)


@router.get("/{domain_id}/verify", responses=errors_of())
async def verify_domain(
    domain_id: str, request: Request, principal: DomainsWrite, services: ServicesDep
) -> DomainResponse:
    """Check the DNS records now. A record about which DNS gives no answer keeps its status."""
    actor = services.accounts.access.actor(request, principal)
    return _serialize(await service.verify(services, principal, _read_id(domain_id), actor), services)


@router.delete("/{domain_id}", responses=errors_of(DomainInUse))
async def delete_domain(
    domain_id: str, request: Request, principal: DomainsWrite, services: ServicesDep
) -> DeletedResponse:
    """Remove a domain from which no message is queued or being sent."""
    found = _read_id(domain_id)
    await service.delete(services, principal, found, services.accounts.access.actor(request, principal))
    return DeletedResponse(id=ids.encode_id("dom", found))


def _read_id(text: str) -> UUID:
    return read_id("dom", text, NotFound(service.NO_DOMAIN))


def _serialize(domain: Domain, services: Services) -> DomainResponse:
    records = [
        DomainRecordResponse(
            purpose=record.purpose,
            type=record.type,
            host=record.host,
            value=record.value,
            status=RecordStatus(domain.statuses.get(record.purpose.value, RecordStatus.PENDING)),
        )
        for record in services.domains.records(domain.token)
    ]
    return DomainResponse(
        id=ids.encode_id("dom", domain.id),
        domain=domain.domain,
        status=DomainStatus.VERIFIED if services.domains.is_verified(domain.statuses) else _open_status(records),
        records=records,
        checked_at=None if domain.checked_at is None else rfc3339(domain.checked_at),
        created_at=rfc3339(domain.created_at),
    )


def _open_status(records: Sequence[DomainRecordResponse]) -> DomainStatus:
    """Of a domain that is not verified."""
    found = {record.status for record in records}
    return DomainStatus.PENDING if found <= {RecordStatus.PENDING, RecordStatus.VERIFIED} else DomainStatus.FAILED
