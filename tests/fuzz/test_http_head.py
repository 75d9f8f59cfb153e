"""HTTP requests that are damaged: refused, or read in the same way whatever the reads are cut into, and bounded."""

import httptools
from hypothesis import strategies as st

from sluice.runtime.http_framing import RefusedRequestError
from tests.fuzz.fuzzing import damaged, fuzz
from tests.unit.test_http_framing import LIMITS, REQUESTS, Reader

SAMPLES = [request for request, _ in REQUESTS]
ONE_READ = 65_536


def read(pieces):
    """The requests that were read before the first refusal, and whether there was one."""
    reader = Reader()
    try:
        reader.read(*pieces)
    except (RefusedRequestError, httptools.HttpParserError, httptools.HttpParserUpgrade):
        return reader.requests, True
    finally:
        assert reader.framer.buffered <= LIMITS.head_bytes + ONE_READ
    return reader.requests, False


@fuzz(stream=damaged(st.lists(st.sampled_from(SAMPLES), min_size=1, max_size=3).map(b"".join)), step=st.integers(1, 40))
def test_requests_are_the_same_however_they_are_cut(stream, step):
    whole = read([stream])
    pieces = read([stream[start : start + step] for start in range(0, len(stream), step)])

    assert pieces[0][: len(whole[0])] == whole[0][: len(pieces[0])]
    assert whole[1] or pieces == whole
