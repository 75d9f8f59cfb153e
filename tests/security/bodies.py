"""Bodies of send requests that cost a server much more than their sender."""

import base64

from tests.examples import a_body, as_json

SIZE = 26_000_000  # bytes, below the largest body


def _with(field, value):
    return as_json(a_body())[:-1] + b', "%b": %b}' % (field, value)


def _object(item, size):
    return b"{" + b",".join(map(item.__mod__, range(size // len(item % 10_000_000)))) + b"}"


def _numbers(size):
    return b'{"a":[0' + b",0" * (size // 2) + b"]}"


def _names(size):
    return _object(b'"%d":0', size)


def _push(size):
    return b'{"channel":"push","to":["t"],"channel_options":{"data":' + _object(b'"%d":"x"', size) + b"}}"


# By name: the body of about so many bytes. Each of 26 MB is refused with 400 or 413.
HOSTILE = {
    "metadata with an array of numbers": lambda size: _with(b"metadata", _numbers(size)),
    "metadata with an array of objects": lambda size: _with(b"metadata", b'{"a":[{}' + b",{}" * (size // 3) + b"]}"),
    "metadata with many names": lambda size: _with(b"metadata", _names(size)),
    "metadata with a long text": lambda size: _with(b"metadata", b'{"a":"' + b"x" * size + b'"}'),
    "metadata with long names": lambda size: _with(b"metadata", _object(b'"%d' + b"x" * 3_000 + b'":0', size)),
    "unknown fields": lambda size: as_json(a_body())[:-1] + b"," + _names(size)[1:],
    "push data with many names": _push,
    "white space": lambda size: as_json(a_body())[:-1] + b" " * size + b"}",
    "escaped text": lambda size: _with(b"html", b'"' + b'\\"' * (size // 2) + b'"'),
    "escapes": lambda size: _with(b"html", b'"' + b"\\u0041" * (size // 6) + b'"'),
    "brackets": lambda size: b"[" * size,
    "quotation marks": lambda size: b'"' * size,
    "a text without end": lambda size: as_json(a_body())[:-1] + b',"html":"' + b"x" * size,
    "tags": lambda size: _with(b"tags", b'["' + b'x","' * (size // 4) + b'"]'),
    "many addresses": lambda size: _with(b"cc", b'["' + b'a@x.example","' * (size // 14) + b'b@x.example"]'),
}


def a_large_mail(size=SIZE):
    """A mail with an attachment, of about ``size`` bytes: what only a large body can say."""
    content = base64.b64encode(bytes(size * 3 // 4 - 3_000)).decode()
    return as_json(a_body(attachments=[{"filename": "a.bin", "content": content}]))
