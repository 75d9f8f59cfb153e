"""Field types of request bodies: texts that a database, a header and a provider can take."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from sluice.model.address import parse_address
from sluice.model.characters import has_invisible

_E164 = re.compile(r"\+[1-9][0-9]{5,14}")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_CONTENT_ID = re.compile(r"[!-;=?-~]+")
_CONTROLS = r"\x00-\x1f\x7f\u0085\u2028\u2029"
_CONTROL = re.compile(f"[{_CONTROLS}]")
_SPACES = r"\s\x1c-\x1f\u0085"  # what str.isspace counts, in every dialect of patterns
_NO_NUL = r"[^\x00]*"
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def nullable(schema: dict[str, Any]) -> None:
    """Null as a value of every field that is not required."""
    for name, field in schema["properties"].items():
        if name not in schema.get("required", ()) and {"type": "null"} not in field.get("anyOf", ()):
            outer = {key: field.pop(key) for key in ("title", "default", "description") if key in field}
            schema["properties"][name] = {"anyOf": [field, {"type": "null"}], **outer}


class RequestModel(BaseModel):
    """Base of the models of a request body, from which :func:`gateway.kit.strict_json.without_nulls` removed the null
    fields: unknown fields are refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=nullable)


def _address(text: str) -> str:
    parse_address(text)
    return text


def _bare_address(text: str) -> str:
    if parse_address(text).name or text.rstrip().endswith(">"):
        raise ValueError("must be an e-mail address without a name")
    return text


def _number(text: str) -> str:
    if not _E164.fullmatch(text):
        raise ValueError("is not a phone number in E.164 format, such as +14155551234")
    return text


def _time(value: Any) -> Any:
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise ValueError("must be a time in RFC 3339 format with its offset, such as 2026-03-27T10:00:00Z")
    return value


def _in_utc(when: datetime) -> datetime:
    """The time in UTC; at the two ends of the calendar, where UTC is outside of it, the end."""
    try:
        return when.astimezone(UTC)
    except OverflowError:
        first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
        return first if when.year == first.year else last


def _not_blank(text: str) -> str:
    if text.isspace():
        raise ValueError("must not be blank")
    return text


def _file_name(text: str) -> str:
    """The last part of a path of any system: a receiver must not take the others for folders."""
    name = re.split(r"[/\\]", text)[-1].strip()
    if name in ("", ".", ".."):
        raise ValueError("must name a file, not a folder")
    return visible(name)


def visible(text: str) -> str:
    """``text``, if no character of it is hidden or changes the order of others.

    Raises:
        ValueError: it contains such a character.
    """
    if has_invisible(text):
        raise ValueError("must not contain invisible characters")
    return text


def _content_id(text: str) -> str:
    if not _CONTENT_ID.fullmatch(text):
        raise ValueError("must be ASCII without blanks and angle brackets, as it stands after cid: in the HTML")
    return text


def one_line(text: str) -> str:
    """``text``, if it can stand in one line.

    Raises:
        ValueError: it contains a line break, a control character or half of a surrogate pair.
    """
    if text.isprintable():  # the usual case, and ten times as fast as the pattern
        return text
    if _CONTROL.search(text):
        raise ValueError("must not contain line breaks or control characters")
    return storable(text)


def storable(text: str) -> str:
    """``text``, if PostgreSQL and UTF-8 can represent it.

    Raises:
        ValueError: it contains NUL or half of a surrogate pair.
    """
    if "\x00" in text or (not text.isascii() and _SURROGATE.search(text)):
        raise ValueError("contains a character that is no text (NUL or half of a surrogate pair)")
    return text


class OrOne:
    """Of a list of texts: a single one may be written without the list."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validation: a text becomes a list."""
        return core_schema.no_info_before_validator_function(_as_list, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The document: an item, or the list."""
        found = handler(schema)
        return {"anyOf": [found["items"], found]}


class Free:
    """Of an object whose names and values are the caller's: the document says that they contain no NUL."""

    def __get_pydantic_json_schema__(self, source: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The document. Of values of any type it says nothing: types that are generated from it would be unusable."""
        found = handler(source)
        if found["additionalProperties"] is not True:
            found["additionalProperties"]["pattern"] = _whole(_NO_NUL)
        return {**found, "propertyNames": {"pattern": _whole(_NO_NUL)}}


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def empty_list() -> Any:
    """An empty list as default. A factory: pydantic copies a literal default deeply, which costs far more."""
    return Field(default_factory=list, json_schema_extra={"default": []})


def _whole(pattern: str) -> str:
    return f"^{pattern}$"


def _pattern(whole: str) -> Any:
    """What the document says of a text: it matches, as a whole. The validators check it themselves, in their words."""
    return Field(json_schema_extra={"pattern": _whole(whole)})


def _not_null(value: Any) -> Any:
    if value is None:
        raise ValueError("must not be null")
    return value


NotNull = BeforeValidator(_not_null)
"""Of a field that may be absent, with None as its default, and may not be null."""

NamedAddress = Annotated[str, Field(max_length=520), AfterValidator(_address)]
BareAddress = Annotated[
    str,
    Field(min_length=3, max_length=254),
    AfterValidator(_bare_address),
    WithJsonSchema({"type": "string", "format": "email", "minLength": 3, "maxLength": 254}),
]
Number = Annotated[str, Field(max_length=16), _pattern(_E164.pattern), AfterValidator(_number)]
Line = Annotated[
    str,
    Field(min_length=1, max_length=998),
    _pattern(f"[^{_CONTROLS}]*[^{_CONTROLS}{_SPACES}][^{_CONTROLS}]*"),
    AfterValidator(one_line),
    AfterValidator(_not_blank),
]
Text = Annotated[str, Field(min_length=1, max_length=1 << 20), _pattern(_NO_NUL), AfterValidator(storable)]
VisibleText = Annotated[Text, _pattern(rf"[^\x00]*[^\x00{_SPACES}][^\x00]*"), AfterValidator(_not_blank)]
Short = Annotated[str, Field(min_length=1, max_length=255), _pattern(f"[^{_CONTROLS}]+"), AfterValidator(one_line)]
FileName = Annotated[Short, AfterValidator(_file_name)]
ChatId = Annotated[Short, AfterValidator(visible)]
DeviceToken = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(one_line), AfterValidator(visible)]
ContentId = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_content_id)]
Time = Annotated[AwareDatetime, BeforeValidator(_time), AfterValidator(_in_utc)]
"""A time in a request, in UTC."""
Timestamp = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""A time in a response, as :func:`gateway.kit.responses.rfc3339` writes it."""
