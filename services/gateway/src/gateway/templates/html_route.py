"""The class of routes whose body is HTML, or JSON with the same in the field ``html``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Query
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import ValidationFailed, from_faults
from gateway.kit.json_route import DOCUMENT
from gateway.kit.responses import headers_of, read_body
from gateway.kit.streams import content_of
from gateway.templates.bodies import TemplateRoute

_HTML, _JSON = "text/html", "application/json"

Model = TypeVar("Model", bound=BaseModel)


class HtmlRoute(TemplateRoute):
    """Puts the document of a JSON body, or ``{"html": …}`` for a body of HTML, into the scope of the request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the framework, behind the check of the body.

        Raises:
            PayloadTooLarge: the body has too many bytes.
            ValidationFailed: the body is neither, is compressed or not UTF-8, no JSON, or has a key twice.
        """
        handle_json, handle = super().get_route_handler(), APIRoute.get_route_handler(self)

        async def checked(request: Request) -> Response:
            media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if media_type == _JSON:
                return await handle_json(request)
            if media_type != _HTML:
                raise ValidationFailed(f"Content-Type: must be {_HTML} or {_JSON}")
            body = await read_body(headers_of(request.scope), request.receive, self.max_body)
            try:
                request.scope[DOCUMENT] = {"html": body.decode()}
            except UnicodeDecodeError:
                raise ValidationFailed("The body is not UTF-8.") from None
            return await handle(request)

        return checked


def html_or_json(model: type[Model]) -> Callable[..., Awaitable[Model]]:
    """A dependency: the body, and beside it the fields in the query.

    Raises:
        ValidationFailed: a field is wrong, or is in the query and in the body.
    """

    async def read(
        request: Request,
        name: Annotated[str | None, Query(description="With a body of HTML.")] = None,
        subject: Annotated[str | None, Query(description="With a body of HTML.")] = None,
    ) -> Model:
        in_query = {field: text for field, text in {"name": name, "subject": subject}.items() if text is not None}
        document = request.scope[DOCUMENT]
        for field in in_query.keys() & document.keys():
            raise ValidationFailed(f"{field}: is in the query and in the body", field=field)
        if document == {"html": ""} and request.method == "PUT":
            document = {}  # another name alone
        try:
            return model.model_validate(in_query | document)
        except ValidationError as error:
            raise from_faults(error.errors(), without=()) from None

    return read


def request_body(model: type[BaseModel], example: str) -> dict[str, Any]:
    """Both media types in the OpenAPI document."""
    html = {"schema": {"type": "string", "description": "The HTML part, a template."}, "example": example}
    return {"requestBody": {"required": True, "content": {_HTML: html, **content_of(model, _JSON)}}}
