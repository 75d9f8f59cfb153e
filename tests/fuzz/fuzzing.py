"""Fuzzing with a time budget: inputs made from good ones by damage, until the time of a target is over.

By hand for longer: ``SLUICE_FUZZ_SECONDS=300 .venv/bin/pytest tests/fuzz``.
"""

import os
import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECONDS = float(os.environ.get("SLUICE_FUZZ_SECONDS", "2"))
_BATCH = 15  # values between two looks at the clock

# What damages parsers: ends, separators, escapes, numbers at their borders, characters that programs treat specially.
ODD = [
    *(
        b"\x00",
        b"\xff\xfe",
        b"\r\n",
        b"\n",
        b"\r",
        b"\t",
        b" ",
        b'"',
        b"'",
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"%00",
        b"%",
    ),
    *(b"{", b"}", b"[", b"]", b"<", b">", b"@", b":", b";", b",", b"=", b"&", b"#", b"-1", b"0", b"1e999", b"NaN"),
    *(b"null", b"true", b"9223372036854775808", b"9999-12-31T23:59:59-23:59", b"0001-01-01T00:00:00+23:59"),
    *("\u202e".encode(), "\u200d".encode(), "\ufeff".encode(), "ß".encode(), "☃".encode(), b"x" * 300),
]


def fuzz(**strategies):
    """The test runs with values of ``strategies``, again and again, for :data:`SECONDS`."""

    def decorate(test):
        batch = settings(max_examples=_BATCH, deadline=None, database=None, suppress_health_check=list(HealthCheck))(
            given(**strategies)(test)
        )

        def run():
            fuzz_for(SECONDS, batch)

        run.__name__, run.__module__, run.__doc__ = test.__name__, test.__module__, test.__doc__
        run.batch = batch
        return run

    return decorate


def fuzz_for(seconds, batch):
    """Call ``batch`` until the time is over, at least once."""
    end = time.monotonic() + seconds
    batch()
    while time.monotonic() < end:
        batch()


@st.composite
def damaged(draw, samples):
    """One of ``samples`` (bytes) after a few edits: a part removed, doubled, or replaced by something odd."""
    data = draw(samples if isinstance(samples, st.SearchStrategy) else st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        piece = draw(st.one_of(st.sampled_from(ODD), st.binary(max_size=4), st.just(data[start:end] * 2)))
        data = data[:start] + piece + data[end:]
    return data


def damaged_text(samples):
    """As :func:`damaged`, of text; what is no UTF-8 becomes lone surrogates, as in JSON."""
    return damaged([sample.encode() for sample in samples]).map(lambda data: data.decode("utf-8", "surrogateescape"))
