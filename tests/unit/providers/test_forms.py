"""Forms with files, read back by a parser that shares no code with our writer."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest
from multipart import MultipartParser

from sluice.providers.contract import UnsupportedMessageError
from sluice.providers.kit.requests import post_multipart


def form(fields: list[tuple[str, str]], files: list[tuple[str, tuple[str, bytes, str]]]) -> httpx.Request:
    return post_multipart(httpx.URL("https://api.example.test/"), fields, files, authorization="Basic x")


def parts_of(request: httpx.Request) -> list[Any]:
    boundary = request.headers["content-type"].partition("boundary=")[2]
    return list(MultipartParser(io.BytesIO(request.content), boundary, strict=True))


def test_a_form_repeats_its_fields_and_keeps_every_byte_of_its_files() -> None:
    content = bytes(range(256)) + b"\r\n--\r\n"
    request = form(
        [("to", "a@x"), ("to", "Zoë, 世界"), ("text", "a\r\nb\n")], [("f", ("Grüße.pdf", content, "a/b; c=d"))]
    )

    parts = parts_of(request)

    assert [(part.name, part.filename) for part in parts] == [
        ("to", None),
        ("to", None),
        ("text", None),
        ("f", "Grüße.pdf"),
    ]
    assert [part.value for part in parts[:3]] == ["a@x", "Zoë, 世界", "a\r\nb\n"]
    assert (parts[3].raw, parts[3].headers["content-type"]) == (content, "a/b; c=d")
    assert request.headers["authorization"] == "Basic x"


def test_equal_forms_have_equal_bytes_and_no_content_can_contain_their_boundary() -> None:
    first, second = form([("a", "b")], [("f", ("n", b"x", "a/b"))]), form([("a", "b")], [("f", ("n", b"x", "a/b"))])
    boundary = first.headers["content-type"].partition("boundary=")[2]

    guessed = form([("a", "b")], [("f", ("n", f"\r\n--{boundary}--".encode(), "a/b"))])

    assert first.content == second.content
    assert guessed.headers["content-type"] != first.headers["content-type"]
    assert len(parts_of(guessed)) == 2


@pytest.mark.parametrize("fields", [([("a", "half \ud800")], []), ([], [("f", ("half \ud800", b"", "a/b"))])])
def test_half_a_character_has_no_form(fields: Any) -> None:
    with pytest.raises(UnsupportedMessageError):
        form(*fields)


@pytest.mark.parametrize("name", ['a"; name="b', "a\r\nX: y", "a\\"])
def test_a_name_cannot_end_its_header(name: str) -> None:
    (part,) = parts_of(form([], [("f", (name, b"x", "a/b"))]))

    assert part.name == "f"
    assert {header.lower() for header, _ in part.headerlist} == {"content-disposition", "content-type"}
