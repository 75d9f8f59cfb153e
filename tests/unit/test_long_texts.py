"""Long texts of a body are decoded apart from the rest of its JSON, with the same result."""

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import ValidationFailed
from gateway.kit import base64 as of_attachments
from gateway.kit import strict_json as module
from gateway.kit.body_cost import end_of_text
from gateway.kit.strict_json import object_of, strict_json

TEXTS = st.text(st.sampled_from('a"\\/\n\u00e9\u20ac\U0001f600\x00 [{'), max_size=40)
VALUES = st.recursive(
    TEXTS | st.none() | st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(TEXTS, VALUES, max_size=4)
LIMITS = st.integers(1, 30)
DAMAGE = st.sampled_from([b"", b'"', b"\\", b"\x80", b"\n", b"u"])


def read(body, limit):
    """What the body is with every text of more than ``limit`` bytes as a long one; the error's text if it is none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LONG_TEXT", limit)
        try:
            return object_of(body)
        except ValidationFailed as refused:
            return str(refused)


@given(DOCUMENTS, st.booleans(), st.sampled_from([None, 1]), LIMITS)
@example({"a": "\U0001f600" * 9}, True, None, 3)
@example({"a" * 99: "b" * 99}, False, 1, 3)
def test_long_texts_are_read_like_short_ones(document, ascii_only, indent, limit):
    body = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()

    assert read(body, limit) == document


@given(DOCUMENTS, st.booleans(), LIMITS, st.data())
def test_a_damaged_body_is_refused_alike(document, ascii_only, limit, data):
    body = bytearray(json.dumps(document, ensure_ascii=ascii_only).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b'"', b"\\", b"\x80", b"\n", b"u"])
        )

    # Which of several faults is named differs: those of a long text come first.
    found, expected = (read(bytes(body) or b"{}", one) for one in (limit, 1 << 20))
    assert found == expected or (isinstance(found, str) and isinstance(expected, str))


@pytest.mark.parametrize("limit", [3, 1 << 20])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"a": "xxxx\\ud83d"}', "half of a surrogate pair"),
        (b'{"a": "xxxx\\ude00xxxx"}', "half of a surrogate pair"),
        (b'{"a": "xxxx\\ud83d\\ud83d"}', "half of a surrogate pair"),
        (b'{"a": "xxxx\\x"}', "not valid JSON"),
        (b'{"a": "xxxx\\u00"}', "not valid JSON"),
        (b'{"a": "xxxx\n"}', "not valid JSON"),
        (b'{"a": "xxxx\xff"}', "not UTF-8"),
        (b'{"a": "xxxx', "not valid JSON"),
        (b'{"xxxx": "xxxx", "xxxx": 1}', 'Duplicate key "xxxx"'),
        (b'{"xxxx" : "xxxx", "xxxx"\t: "yyyy"}', 'Duplicate key "xxxx"'),
        (b'["xxxx"]', "not a JSON object"),
    ],
)
def test_faults_have_the_same_words_in_a_long_text(body, message, limit):
    assert message in read(body, limit)


def test_no_text_of_a_caller_stands_for_a_long_one(monkeypatch):
    monkeypatch.setattr(module.secrets, "token_hex", lambda _: "mark")
    body = json.dumps({"a": "x" * 100_000, "b": "mark1"}).encode()

    assert strict_json(body) == {"a": "x" * 100_000, "b": "mark1"}


@given(st.binary(max_size=200), st.integers(1, 20), st.integers(4, 40), st.sampled_from(["", "\n", "\r\n", " "]))
def test_base64_is_decoded_in_pieces_of_any_size(content, line, piece, end):
    text = base64.b64encode(content).decode()
    lines = end.join(text[at : at + line] for at in range(0, len(text), line))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_attachments, "_PIECE", piece)
        assert of_attachments.decode_base64(lines + end) == content


@pytest.mark.parametrize("piece", [4, 5, 6, 8, 1 << 16])
@pytest.mark.parametrize("text", ["QUJD=", "QQ==QUJD", "QUI=QUJD", "QQ=", "QUJDQ", "====", "QU=D", "QUJD%%%%", "=QUJ"])
def test_what_is_not_base64_is_refused_in_pieces_of_any_size(text, piece, monkeypatch):
    monkeypatch.setattr(of_attachments, "_PIECE", piece)

    with pytest.raises(ValueError, match="is not base64"):
        of_attachments.decode_base64(text)


@given(st.binary(max_size=60))
def test_the_end_of_a_text_is_that_of_the_decoder(inner):
    body = inner.replace(b'"', b"").replace(b"\\", b'\\"') + b'" rest'

    assert end_of_text(body, 0) == body.rindex(b'"')
