"""The framer: whatever the reads are cut into, the same requests, one at a time, within the limits."""

from http import HTTPStatus

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.runtime.http_framing import RefusedRequestError, RequestFramer
from sluice.runtime.http_limits import RequestLimits

LIMITS = RequestLimits(head_bytes=2_000, headers=10, url_bytes=200)


class Reader:
    """A connection that answers every request at once, and keeps what it read."""

    def __init__(self):
        self.parser = httptools.HttpRequestParser(self)
        self.framer = RequestFramer(self.parser.feed_data, LIMITS)
        self.requests = []

    def read(self, *pieces):
        for piece in pieces:
            self.framer.feed(piece)
            while self.framer.is_complete:
                self.framer.next_request()
        return self.requests

    def on_message_begin(self):
        self.url, self.headers, self.content = b"", [], b""

    def on_url(self, url):
        self.url += url

    def on_header(self, name, value):
        self.headers.append((name.lower(), value))

    def on_headers_complete(self):
        headers = dict(self.headers)
        self.framer.body(length=int(headers.get(b"content-length", 0)), chunked=b"transfer-encoding" in headers)

    def on_body(self, content):
        self.content += content

    def on_message_complete(self):
        self.requests.append((self.url, self.content))
        self.framer.complete()


def get(path, *headers):
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"host: x", *headers, b"", b""])


def post(path, content):
    return get(path, b"content-length: %d" % len(content)).replace(b"GET", b"POST") + content


def chunked(path, *chunks, extension=b"", trailers=b""):
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    head = get(path, b"transfer-encoding: chunked").replace(b"GET", b"POST")
    return head + body + b"0" + extension + b"\r\n" + trailers + b"\r\n"


REQUESTS = [
    (get(b"/a"), (b"/a", b"")),
    (post(b"/b", b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"), (b"/b", b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n")),
    (post(b"/c", b""), (b"/c", b"")),
    (chunked(b"/d", b"one", b"\r\n\r\n", b"three" * 20), (b"/d", b"one\r\n\r\n" + b"three" * 20)),
    (chunked(b"/e", b"one", extension=b";name=value", trailers=b"x-sum: 1\r\nx-other: 2\r\n"), (b"/e", b"one")),
    (chunked(b"/f"), (b"/f", b"")),
    (b"\r\n" + get(b"/g"), (b"/g", b"")),
    (get(b"/h", b"connection: Upgrade", b"UpGrade: h2c"), (b"/h", b"")),
    (
        get(b"/i", b"connection: upgrade", b"upgrade: foo", b"content-length: 20") + get(b"/smuggled")[:20],
        (b"/i", get(b"/smuggled")[:20]),
    ),
]


@given(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=6), st.data())
def test_the_same_requests_however_the_reads_are_cut(chosen, data):
    stream = b"".join(request for request, _ in chosen)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert Reader().read(*pieces) == [expected for _, expected in chosen]


@given(st.sampled_from(REQUESTS))
def test_a_request_that_arrives_byte_by_byte(case):
    request, expected = case

    assert Reader().read(*(request[n : n + 1] for n in range(len(request)))) == [expected]


def test_the_next_request_is_not_parsed_before_it_is_asked_for():
    reader = Reader()
    reader.framer.feed(get(b"/a") + get(b"/b") * 1000)

    assert reader.requests == [(b"/a", b"")]
    assert reader.framer.buffered == len(get(b"/b")) * 1000


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (get(b"/" + b"x" * 300), 414),
        (b"GET /" + b"x" * 300, 414),
        (get(b"/", *[b"a:"] * 20), 431),
        (b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 20, 431),
        (get(b"/", b"a: " + b"x" * 3000), 431),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 3000, 431),
        (b"GET / HTTP/1.1\r\n" + b"x" * 3000, 431),
        (chunked(b"/", b"one", trailers=b"a:\r\n" * 20), 431),
        (chunked(b"/", b"one", trailers=b"a: " + b"x" * 3000 + b"\r\n"), 431),
        (chunked(b"/", b"one", trailers=b"a: " + b"x" * 3000)[:-2], 431),
        (chunked(b"/", b"one", extension=b";" + b"x" * 2000), 400),
        (get(b"/", b"transfer-encoding: chunked") + b"0x3\r\none\r\n0\r\n\r\n", 400),
        (get(b"/", b"transfer-encoding: chunked") + b"-3\r\none\r\n0\r\n\r\n", 400),
        (get(b"/", b"transfer-encoding: chunked") + b"3\none\n0\n\n", 400),
        (get(b"/", b"transfer-encoding: chunked") + b"f" * 16 + b"\r\n", 400),
        (get(b"/", b"transfer-encoding: chunked") + b"\r\n" * 100, 400),
        (b"GET / HTTP/1.1\nhost: x\n\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\na: b\r\n\r\n", 400),
    ],
)
def test_a_limit_or_a_broken_frame_ends_the_connection(stream, status):
    with pytest.raises(RefusedRequestError) as refused:
        Reader().read(stream)

    assert refused.value.status == HTTPStatus(status)


def test_padding_before_a_request_is_not_skipped_for_ever():
    with pytest.raises(RefusedRequestError):
        Reader().read(b"\r\n" * 400_000 + get(b"/"))


@pytest.mark.parametrize("part", [b"x", b"GET / HTTP/1.1\r\na: ", get(b"/", b"transfer-encoding: chunked") + b"1;"])
def test_what_is_held_back_stays_within_the_limit(part):
    reader = Reader()
    with pytest.raises(RefusedRequestError):
        reader.read(part, *[b"x"] * 10_000)

    assert reader.framer.buffered <= LIMITS.head_bytes + 1
