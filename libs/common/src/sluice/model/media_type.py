"""The content type of an attachment: a value with parameters (RFC 2045 5.1), and the guess from a file's name."""

from __future__ import annotations

import mimetypes
import re
from dataclasses import dataclass

_ATOM = r"[!#$%&'*+\-.^_`{|}~0-9A-Za-z]+"
_NAME = re.compile(rf"\s*({_ATOM}/{_ATOM})\s*")
_PARAMETER = re.compile(rf"\s*({_ATOM})\s*=\s*({_ATOM}|\"(?:[^\"\\]|\\.)*\")\s*")
_OCTET_STREAM = "application/octet-stream"
_COMPOSITE = ("multipart/", "message/")


class InvalidMediaTypeError(ValueError):
    """The text is not a content type that an attachment can have; the message says why."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """``name`` and ``parameters`` as they were written; comparisons use :attr:`kind` and :meth:`parameter`."""

    name: str  # "text/calendar"
    parameters: tuple[tuple[str, str], ...] = ()  # name and value, which may be a quoted string

    @property
    def kind(self) -> str:
        """The name in lower case."""
        return self.name.lower()

    def parameter(self, name: str) -> str | None:
        """The value of a parameter without its quotes; None if there is none of the name, which is in lower case."""
        for found, value in self.parameters:
            if found.lower() == name:
                return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        return None

    @property
    def is_invitation(self) -> bool:
        """A calendar object that asks for an answer or changes an event: iMIP, RFC 6047 2.4."""
        return self.kind == "text/calendar" and self.parameter("method") is not None

    def with_parameter(self, name: str, value: str) -> MediaType:
        """The same with one more parameter."""
        return MediaType(self.name, (*self.parameters, (name, value)))

    def __str__(self) -> str:
        return "; ".join([self.name, *(f"{name}={value}" for name, value in self.parameters)])


def parse_media_type(text: str) -> MediaType:
    """The content type in ``text``.

    Raises:
        InvalidMediaTypeError: it does not follow RFC 2045, or a part of its kind cannot be encoded in base64.
    """
    if not (text.isascii() and text.isprintable()):
        raise InvalidMediaTypeError("must be ASCII; a name belongs in the file name")
    name = _NAME.match(text)
    if name is None:
        raise InvalidMediaTypeError("is not a content type such as application/pdf or text/csv; charset=utf-8")
    found = MediaType(name[1], _parameters(text, name.end()))
    if found.kind.startswith(_COMPOSITE):
        raise InvalidMediaTypeError(
            f"must not be multipart/ or message/, which cannot be encoded in base64 (RFC 2045 6.4); use {_OCTET_STREAM}"
        )
    return found


def _parameters(text: str, at: int) -> tuple[tuple[str, str], ...]:
    found: dict[str, tuple[str, str]] = {}
    while text[at:].strip(" ;"):
        parameter = _PARAMETER.match(text, at + 1) if text[at] == ";" else None
        if parameter is None:
            raise InvalidMediaTypeError("has a parameter that is not written as ; name=value")
        name, value = parameter.groups()
        if name.lower() in found:
            raise InvalidMediaTypeError(f"has the parameter {name} twice")
        found[name.lower()] = (name, value)
        at = parameter.end()
    return tuple(found.values())


# Python's own table, without the files of the machine, so that every gateway guesses the same.
_TYPES = mimetypes.MimeTypes(filenames=())
for _extension, _type in {
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".ics": "text/calendar",
    ".md": "text/markdown",
    ".webp": "image/webp",
    ".7z": "application/x-7z-compressed",
}.items():
    _TYPES.add_type(_type, _extension)
_ENCODINGS = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
}


def guess_media_type(filename: str) -> MediaType:
    """The content type that a file of this name has; ``application/octet-stream`` for an unknown ending.

    The bytes of a compressed file are of the compression's type, whatever the name before its ending.
    """
    path = f"./{filename}"  # and no URL
    guessed, encoding = _TYPES.guess_type(path)
    if (guessed, encoding) == (None, None):  # the table has .Z (compress) in upper case only
        guessed, encoding = _TYPES.guess_type(path.lower())
    if encoding is not None:
        guessed = _ENCODINGS.get(encoding)
    if guessed is None or guessed.startswith(_COMPOSITE):
        guessed = _OCTET_STREAM
    return MediaType(guessed)
