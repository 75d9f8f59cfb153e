"""``/unsubscribe/{token}``: one-click unsubscription (RFC 8058). Its only authentication is the token.

Mail programs send POST; a person who opens the link gets a page with a button. GET changes nothing, because scanners
of mail open every link.
"""

from __future__ import annotations

import html

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.apis.rendering import error_response
from gateway.errors import ApiError
from gateway.kit.responses import headers_of, read_body
from gateway.kit.transactions import transaction
from gateway.unsubscribe.links import PATH, Subscription, UnsubscribeLinks
from sluice.model.message import Channel
from sluice.model.suppression import SuppressionReason, known_address
from sluice.runtime.clock import utc_now
from sluice.store import suppressions
from sluice.store.db import Pool
from sluice.store.suppressions import NewSuppression, Recipient

_MAX_BODY = 4096  # bytes: a form with one field
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title></head><body><main><h1>{title}</h1><p>{text}</p>{form}</main></body></html>
"""
_FORM = """<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click">
<button type="submit">Unsubscribe</button></form>"""


class UnsubscribeEndpoint:
    """Suppresses the recipient of a link."""

    def __init__(self, pool: Pool, links: UnsubscribeLinks) -> None:
        self._pool = pool
        self._links = links

    def route(self) -> Route:
        """The route of the links."""
        return Route(f"{PATH}/{{token}}", self._respond, methods=["GET", "POST"])

    async def _respond(self, request: Request) -> Response:
        found = self._links.read(request.path_params["token"])
        if found is None:
            return _page(404, "This link is not valid", "It is incomplete, or it was made long ago.")
        address = html.escape(found.address)
        if request.method != "POST":
            return _page(200, "Unsubscribe", f"No more mail of this sender to <strong>{address}</strong>?", _FORM)
        try:
            await read_body(headers_of(request.scope), request.receive, _MAX_BODY)
            await self._suppress(found)
        except ApiError as error:
            return error_response(error)
        return _page(200, "Unsubscribed", f"This sender sends no more mail to <strong>{address}</strong>.")

    async def _suppress(self, found: Subscription) -> None:
        """A mail of a test key was never sent: its link suppresses nothing."""
        address = known_address(Channel.EMAIL, found.address)
        if found.sandbox or address is None:
            return
        recipient = Recipient(found.project_id, Channel.EMAIL, address)
        new = NewSuppression(
            recipient, SuppressionReason.UNSUBSCRIBE, "the recipient used the link in the mail", found.delivery_id
        )
        async with transaction(self._pool, found.project_id) as db:
            await suppressions.add(db, [new], now=utc_now())


def _page(status: int, title: str, text: str, form: str = "") -> Response:
    return Response(_PAGE.format(title=title, text=text, form=form), status, _HEADERS, "text/html")
