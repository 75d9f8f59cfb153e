"""A run is void when the generator was late; a system is behind when it delivers less, later, or much later on."""

import pytest

from bench.validity import invalid_reasons, lag_reasons


def test_a_punctual_run_may_be_quoted():
    assert invalid_reasons(0.0019, drawn=1000, sent=1000) == []


@pytest.mark.parametrize(
    ("lag", "drawn", "sent", "word"),
    [(0.0021, 1000, 1000, "2.1 ms late"), (0.001, 1000, 989, "989 of 1000"), (None, 0, 0, "nothing was sent")],
)
def test_a_run_is_void_when_its_generator_failed(lag, drawn, sent, word):
    assert any(word in reason for reason in invalid_reasons(lag, drawn, sent))


def test_a_system_that_delivers_everything_at_a_steady_delay_keeps_up():
    assert lag_reasons(1000, 995, [0.1] * 1000, rest=0.3) == []


@pytest.mark.parametrize(
    ("delivered", "latencies", "rest", "word"),
    [
        (980, [0.1] * 900, 0.3, "98.0% of the offered"),
        (1000, [index / 1000 for index in range(900)], 0.3, "grew by 0.60 s"),
        (1000, [0.1] * 900, 2.5, "2.5 s until"),
    ],
)
def test_a_system_is_behind(delivered, latencies, rest, word):
    assert any(word in reason for reason in lag_reasons(1000, delivered, latencies, rest))
