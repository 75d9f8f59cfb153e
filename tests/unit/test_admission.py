"""Who is refused when the gateway cannot keep up: those with more than their share, and only for as long."""

import pytest

from gateway.ingest.admission import AdmissionController
from tests.examples import an_id

LOUD, QUIET = an_id(), an_id()


class Clock:
    """A time that stands until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Door:
    """A crowd, and the requests that are open in it."""

    def __init__(self):
        self.clock = Clock()
        self.crowd = AdmissionController(self.clock)
        self.open = []

    def come(self, project, count=1, *, piles=False):
        """How many of ``count`` are let in."""
        entered = [self.crowd.acquire(project, backlogged=piles) for _ in range(count)]
        self.open += [(project, at) for at in entered if at is not None]
        return sum(at is not None for at in entered)

    def answer(self, count):
        for _ in range(count):
            self.crowd.release(*self.open.pop(0))

    def pass_time(self, seconds):
        self.clock.now += seconds

    def be_late(self, looks=1):
        """So many looks at which nobody was answered in time, 10 answers each, replaced by as many of the same."""
        for _ in range(looks):
            self.pass_time(0.2)
            for _ in range(10):
                project = self.open[0][0]
                self.answer(1)
                self.come(project)

    def be_quick(self, looks=1, *, answer_after=0.0):
        for _ in range(looks):
            self.pass_time(0.11)
            assert self.come(QUIET)
            self.pass_time(answer_after)
            self.crowd.release(*self.open.pop())

    def see(self, project):
        """It was here lately."""
        self.come(project)
        self.crowd.release(*self.open.pop())


@pytest.fixture
def door():
    return Door()


def test_a_burst_is_let_in(door):
    assert door.come(LOUD, 5000) == 5000


def test_who_floods_a_late_gateway_is_refused(door):
    door.come(LOUD, 500)
    door.be_late(20)
    door.see(QUIET)

    assert door.come(LOUD, 500) == 0


def test_a_project_alone_waits_behind_itself_and_is_not_refused(door):
    door.come(LOUD, 500)
    door.be_late(20)

    assert door.come(LOUD, 500) == 500


def test_the_quiet_one_is_let_in_whatever_the_loud_one_does(door):
    door.come(LOUD, 500)
    door.be_late(20)

    assert door.come(QUIET, 8) == 8


def test_who_was_not_here_lately_has_no_share(door):
    door.see(QUIET)
    door.come(LOUD, 500)
    door.be_late(30)

    assert door.come(LOUD, 500) == 500


def test_both_have_half_when_both_are_loud(door):
    for _ in range(200):
        door.come(LOUD)
        door.come(QUIET)
    door.be_late(10)
    door.answer(len(door.open))

    let_in = [0, 0]
    for _ in range(1000):
        for number, project in enumerate((LOUD, QUIET)):
            let_in[number] += door.come(project)

    assert let_in[0] == pytest.approx(let_in[1], abs=1)
    assert sum(let_in) < 400


def test_a_few_are_always_let_in(door):
    door.come(LOUD, 1000)
    door.be_late(20)
    door.see(QUIET)
    door.answer(len(door.open))

    assert 20 < door.come(LOUD, 1000) < 100


def test_when_answers_come_in_time_again_the_limit_is_forgotten(door):
    door.come(LOUD, 500)
    door.be_late(20)
    door.answer(len(door.open))

    door.be_quick(100)

    assert door.come(LOUD, 5000) == 5000


def test_a_project_without_open_requests_takes_no_share(door):
    door.come(LOUD, 400)
    door.be_late(20)
    door.come(QUIET, 5)
    door.answer(len(door.open))

    assert door.crowd._open == {}


@pytest.mark.parametrize(("late", "let_in"), [(0.008, 5), (0.02, 0)])
def test_who_piles_up_is_refused_when_answers_begin_to_come_late(door, late, let_in):
    door.be_quick(answer_after=0.004)
    door.be_quick(answer_after=late)
    door.come(QUIET)

    assert door.come(LOUD, 5, piles=True) == let_in
    assert door.come(LOUD, 5) == 5


def test_where_answers_always_take_long_they_are_not_late(door):
    door.be_quick(20, answer_after=0.02)
    door.come(QUIET)

    assert door.come(LOUD, 5, piles=True) == 5


def test_a_project_alone_may_pile_up(door):
    door.come(LOUD, 500)
    door.be_late(5)

    assert door.come(LOUD, 5, piles=True) == 5


def test_who_piles_up_is_let_in_when_nobody_else_has_a_request_open(door):
    door.be_quick(answer_after=0.004)
    door.be_quick(answer_after=0.02)

    assert door.come(LOUD, piles=True) == 1
