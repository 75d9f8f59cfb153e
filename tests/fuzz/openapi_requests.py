"""Requests that schemathesis makes from the OpenAPI document: those that it allows, and those that it forbids.

Path parameters are often replaced by ids that the API has shown, so that requests reach rows. Each request is made by
a key, by a person or without credentials.
"""

import asyncio
import json
import random
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.core.parameters import ParameterLocation

FORBIDDEN_BODY = "with a forbidden body"
CREDENTIALS = frozenset(
    {"authorization", "x-sendpipe-key", "x-sendpipe-project", "x-sendpipe-mode", "x-api-key", "cookie"}
)
_TRANSPORT = frozenset({b"content-length", b"connection", b"accept-encoding", b"host", b"transfer-encoding"})
_ID = re.compile(r"\b([a-z]{2,5})_[0-9a-hjkmnp-tv-z]{26}\b")
_PLAIN_ID = re.compile(r'"(\w+)":"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"')  # with its field
_SENDABLE = re.compile(rb"[!#-'*+.^-z|~0-9A-Z-]+:[\t\x20-\x7e\x80-\xff]*")  # the client sends no other header
_PLACE = "\x00"  # of a seed: no text of JSON contains it
_OWN_ID = 0.7  # of the path parameters

# Times whose conversion to UTC leaves the years of a calendar.
_EDGES_OF_TIME = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")
# Texts of JSON on which parsers and PostgreSQL differ.
SEEDS = (
    *('"\\u0000"', '"\\ud800"', "NaN", "1e999", "[" * 100_000, "9" * 5_000, "9223372036854775808", "-1", '""', "{}"),
    *("[[]]", "2147483648", "9007199254740993", "1e308", "5e-324", "true", '{"a":{"b\\u0000":["\\u0000"]}}'),
    *(f'"{text}"' for text in _EDGES_OF_TIME),
)
# The same for parameters, percent-encoded.
PARAMETER_SEEDS = (
    *("%00", "%ff", "%ed%a0%80", "%D9%A3", "%F0%9F%98%80", "%27%22%25_%5C", "", "x" * 5_000),
    *("-1", "0", "1e9", "2147483648", "9223372036854775808", "9" * 30, "NaN"),
    *("..", "%2e%2e%2f", "null", "prv_" + "0" * 26, "prv_" + "z" * 26),
    *(quote(text, safe="") for text in _EDGES_OF_TIME),
)
HEADER_SEEDS = (b"\xff\xfe", b"", b"\t", b"-1", b"9" * 30, b"x" * 5_000, "\u0663".encode(), b"evt_" + b"z" * 26 + b"_1")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request, and what it is: an example, a seed, or what the document says of it."""

    operation: str
    kind: str
    request: httpx.Request


@dataclass
class RequestSource:
    """Makes requests for every operation of a document; the same ones for the same number.

    ``own``: values of the parameters that name the project.
    """

    document: Mapping[str, Any]
    number: int = 0
    own: dict[str, str] = field(default_factory=dict)
    ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        schema = schemathesis.openapi.from_dict(dict(self.document))
        operations: Iterator[Any] = schema.get_all_operations()
        self._operations = sorted((found.ok() for found in operations), key=_place)
        self._dice = random.Random(self.number)
        self._tags = {one["operationId"]: one.get("tags", [""])[0] for _, _, one in self._documented()}

    def learn(self, text: str, operation: str) -> None:
        """Remember the ids in an answer: by their prefix, or by the name of their field, ``id`` by the tag of the
        operation.
        """
        for found in _ID.finditer(text):
            self._remember(found[1], found[0])
        for found in _PLAIN_ID.finditer(text):
            self._remember(self._tags[operation] if found[1] == "id" else found[1], found[2])

    def _remember(self, noun: str, text: str) -> None:
        known = self.ids[noun]
        known.append(text)
        del known[:-50]

    async def round(self, number: int, each: int) -> AsyncIterator[Attempt]:
        """``each`` allowed and as many forbidden requests of every operation."""
        for operation in self._operations:
            for mode in schemathesis.GenerationMode:
                strategy = operation.as_strategy(generation_mode=mode)
                for case in await asyncio.to_thread(_cases, strategy, each, self.number + number):
                    yield Attempt(operation.definition.raw["operationId"], _kind(case), self._request(case))

    def examples(self) -> Iterator[Attempt]:
        """The documented examples of every operation that creates something."""
        for path, method, operation in self._documented():
            if method == "POST" and not re.search(r"\{(?!slug|projectId)", path):
                for kind, content in self._examples(operation):
                    url = self._url(path) + self._query(operation)
                    yield Attempt(operation["operationId"], "example", _request(method, url, kind, content))

    def seeds(self) -> Iterator[Attempt]:
        """Every example with each value in it replaced by each of :data:`SEEDS`, and with each field twice; every
        parameter with each of :data:`PARAMETER_SEEDS` or :data:`HEADER_SEEDS`.
        """
        for path, method, operation in sorted(self._documented(), key=lambda one: one[1] == "DELETE"):
            for url in self._seeded_urls(path, operation):
                yield Attempt(operation["operationId"], "seed", httpx.Request(method, f"http://gateway{url}"))
            for header in self._seeded_headers(operation):
                kind, content = next(self._examples(operation), ("application/json", b""))
                request = _request(method, self._url(path) + self._query(operation), kind, content, header)
                yield Attempt(operation["operationId"], "seed", request)
            for kind, content in self._examples(operation):
                if kind != "application/json":
                    continue
                for body in _seeded(json.loads(content)):
                    request = _request(method, self._url(path) + self._query(operation), kind, body.encode())
                    yield Attempt(operation["operationId"], "seed", request)

    def _seeded_urls(self, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
        for parameter in operation.get("parameters", ()):
            name = parameter["name"]
            for text in PARAMETER_SEEDS:
                if parameter["in"] == "path" and name not in self.own:
                    yield self._url(path.replace(f"{{{name}}}", text)) + self._query(operation)
                elif parameter["in"] == "query":
                    query = self._query(operation)
                    yield f"{self._url(path)}{query}{'&' if query else '?'}{name}={text}"

    def _seeded_headers(self, operation: Mapping[str, Any]) -> Iterator[tuple[bytes, bytes]]:
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "header" and parameter["name"].lower() not in CREDENTIALS:
                yield from ((parameter["name"].encode(), value) for value in HEADER_SEEDS)

    def _documented(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                yield path, method.upper(), operation

    def _examples(self, operation: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
        """The media type and the content of each documented example."""
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            schema = content["schema"]
            while "$ref" in schema:
                schema = self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            found = [content.get("example", schema.get("example"))]
            found += [one["value"] for one in content.get("examples", {}).values()]
            for value in found:
                if value is not None:
                    yield kind, value.encode() if isinstance(value, str) else json.dumps(self._owned(value)).encode()

    def _owned(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The body, for the own project."""
        return {**body, **{name: self.own[name] for name in self.own.keys() & body.keys()}}

    def _query(self, operation: Mapping[str, Any]) -> str:
        """The own project, and an example of what else is required."""
        found = {}
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "query" and parameter["name"] in self.own:
                found[parameter["name"]] = self.own[parameter["name"]]
            elif parameter["in"] == "query" and parameter.get("required"):
                found[parameter["name"]] = "x"
        return f"?{urlencode(found)}" if found else ""

    def _url(self, path: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: self._own_id(found[1]) or "none", path)

    def _request(self, case: Any) -> httpx.Request:
        if case.query and self._dice.random() < _OWN_ID:
            case.query.pop("project", None)  # it would be an unknown one
        if "projectId" in self.own and self._dice.random() < _OWN_ID:
            self._name_project(case)
        for name in case.path_parameters or {}:
            if self._dice.random() < _OWN_ID and (own := self._own_id(name)) is not None:
                case.path_parameters[name] = own
        prepared = requests.Request(**case.as_transport_kwargs(base_url="http://gateway")).prepare()
        parts = urlsplit(str(prepared.url))
        body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body or b""
        named = [(_octets(name), _octets(value).strip()) for name, value in prepared.headers.items()]
        headers = [
            (name, value)
            for name, value in named
            if name.lower() not in _TRANSPORT and _SENDABLE.fullmatch(name + b":" + value)
        ]
        url = parts.path + (f"?{parts.query}" if parts.query else "")
        return httpx.Request(str(prepared.method), f"http://gateway{url}", headers=headers, content=body)

    def _name_project(self, case: Any) -> None:
        """Put the own project where the request names one."""
        named = {one["name"] for one in case.operation.definition.raw.get("parameters", ()) if one["in"] == "query"}
        if "projectId" in named:
            case.query = {**(case.query or {}), "projectId": self.own["projectId"]}
        if isinstance(case.body, dict) and "projectId" in case.body and _kind(case) != FORBIDDEN_BODY:
            case.body["projectId"] = self.own["projectId"]

    def _own_id(self, parameter: str) -> str | None:
        if parameter in self.own:
            return self.own[parameter]
        known = [text for prefix, texts in self.ids.items() for text in texts if prefix[0] == parameter[0]]
        return self._dice.choice(known) if known else None


def _place(operation: Any) -> tuple[bool, bool, int]:
    """What changes or removes things comes last, and the project, which all others need, at the end."""
    is_last = operation.method.upper() in ("PATCH", "DELETE")
    is_project = operation.path.endswith(("/{slug}", "/projects/{projectId}"))
    return is_last, is_last and is_project, -operation.path.count("/") if is_last else 0


def _kind(case: Any) -> str:
    """What the document says of the request. What is put in place of parameters may make them allowed again."""
    components = case.meta.components if case.meta is not None else {}
    body = components.get(ParameterLocation.BODY)
    # As text every value is allowed: a null of type text/html is the word null.
    if body is not None and body.mode.is_negative and not (case.media_type or "").startswith("text/"):
        return FORBIDDEN_BODY
    return "odd" if any(one.mode.is_negative for one in components.values()) else "allowed"


def _cases(strategy: Any, count: int, number: int) -> list[Any]:
    found: list[Any] = []

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(case: Any) -> None:
        found.append(case)

    collect()
    return found


def _request(method: str, url: str, kind: str, content: bytes, *headers: tuple[bytes, bytes]) -> httpx.Request:
    named = [(b"content-type", kind.encode()), *headers]
    return httpx.Request(method, f"http://gateway{url}", headers=named, content=content)


def _seeded(example: Mapping[str, Any]) -> list[str]:
    fields = {name: json.dumps(value) for name, value in example.items()}
    replaced = [text.replace(_PLACE, seed) for text in _with_place(example) for seed in SEEDS]
    doubled = [_object(fields)[:-1] + f",{json.dumps(name)}:{text}}}" for name, text in fields.items()]
    return [*replaced, *doubled, *SEEDS]


def _with_place(value: Any) -> Iterator[str]:
    """The JSON of an object or a list, once for each value in it, with :data:`_PLACE` instead of this value."""
    if isinstance(value, dict):
        fields = {name: json.dumps(inner) for name, inner in value.items()}
        for name, inner in value.items():
            yield from (_object({**fields, name: text}) for text in [_PLACE, *_with_place(inner)])
    elif isinstance(value, list):
        items = [json.dumps(inner) for inner in value]
        for index, inner in enumerate(value):
            for text in [_PLACE, *_with_place(inner)]:
                yield f"[{','.join([*items[:index], text, *items[index + 1 :]])}]"


def _object(fields: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in fields.items()) + "}"


def _octets(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
