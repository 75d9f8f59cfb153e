"""Where a login comes from, as a dependency of both APIs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from gateway.accounts.service import Client
from gateway.dependencies import ServicesDep


def _client(request: Request, services: ServicesDep) -> Client:
    agent = request.headers.get("user-agent")
    text = None if agent is None else "".join(letter for letter in agent[:300] if letter.isprintable())
    return Client(services.accounts.access.client_address(request), text)


ClientDep = Annotated[Client, Depends(_client)]
