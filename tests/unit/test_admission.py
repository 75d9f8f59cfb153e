"""Admission control: while the gateway is too slow, only projects above their fair share are refused."""

import pytest
from prometheus_client import REGISTRY

from gateway.ingest.admission import AdmissionController
from tests.examples import an_id

LOUD, QUIET = an_id(), an_id()


class Clock:
    """A clock that a test advances."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class LoadDriver:
    """An admission controller, and the requests that are open in it."""

    def __init__(self):
        self.clock = Clock()
        self.admission = AdmissionController(self.clock)
        self.open = []

    def arrive(self, project, count=1, *, backlogged=False):
        """The number of ``count`` requests that are admitted."""
        admitted = [self.admission.acquire(project, backlogged=backlogged) for _ in range(count)]
        self.open += [(project, at) for at in admitted if at is not None]
        return sum(at is not None for at in admitted)

    def finish(self, count):
        for _ in range(count):
            self.admission.release(*self.open.pop(0))

    def pass_time(self, seconds):
        self.clock.now += seconds

    def slow_down(self, intervals=1):
        """Intervals of 10 late responses each; each finished request is replaced by one of the same project."""
        for _ in range(intervals):
            self.pass_time(0.2)
            for _ in range(10):
                project = self.open[0][0]
                self.finish(1)
                self.arrive(project)

    def speed_up(self, intervals=1, *, latency=0.0):
        for _ in range(intervals):
            self.pass_time(0.11)
            assert self.arrive(QUIET)
            self.pass_time(latency)
            self.admission.release(*self.open.pop())

    def activate(self, project):
        """Send one request, so that the project counts as active."""
        self.arrive(project)
        self.admission.release(*self.open.pop())


@pytest.fixture
def driver():
    return LoadDriver()


def test_a_burst_is_admitted(driver):
    assert driver.arrive(LOUD, 5000) == 5000


def test_a_project_that_floods_a_slow_gateway_is_refused(driver):
    driver.arrive(LOUD, 500)
    driver.slow_down(20)
    driver.activate(QUIET)

    assert driver.arrive(LOUD, 500) == 0


def test_a_single_active_project_is_never_refused(driver):
    driver.arrive(LOUD, 500)
    driver.slow_down(20)

    assert driver.arrive(LOUD, 500) == 500


def test_a_quiet_project_is_admitted_beside_a_loud_one(driver):
    driver.arrive(LOUD, 500)
    driver.slow_down(20)

    assert driver.arrive(QUIET, 8) == 8


def test_an_inactive_project_has_no_share(driver):
    driver.activate(QUIET)
    driver.arrive(LOUD, 500)
    driver.slow_down(30)

    assert driver.arrive(LOUD, 500) == 500


def test_two_loud_projects_have_half_the_limit_each(driver):
    for _ in range(200):
        driver.arrive(LOUD)
        driver.arrive(QUIET)
    driver.slow_down(10)
    driver.finish(len(driver.open))

    counts = [0, 0]
    for _ in range(1000):
        for number, project in enumerate((LOUD, QUIET)):
            counts[number] += driver.arrive(project)

    assert counts[0] == pytest.approx(counts[1], abs=1)
    assert sum(counts) < 400


def test_a_minimum_is_always_admitted(driver):
    driver.arrive(LOUD, 1000)
    driver.slow_down(20)
    driver.activate(QUIET)
    driver.finish(len(driver.open))

    assert 20 < driver.arrive(LOUD, 1000) < 100


def test_the_limit_grows_again_while_responses_are_in_time(driver):
    driver.arrive(LOUD, 500)
    driver.slow_down(20)
    driver.finish(len(driver.open))

    driver.speed_up(100)

    assert driver.arrive(LOUD, 5000) == 5000


def test_a_project_without_open_requests_is_not_counted(driver):
    driver.arrive(LOUD, 400)
    driver.slow_down(20)
    driver.arrive(QUIET, 5)
    driver.finish(len(driver.open))

    assert driver.admission._open == {}


@pytest.mark.parametrize(("latency", "expected"), [(0.008, 5), (0.02, 0)])
def test_a_backlogged_project_is_refused_when_latency_begins_to_rise(driver, latency, expected):
    driver.speed_up(latency=0.004)
    driver.speed_up(latency=latency)
    driver.arrive(QUIET)

    assert driver.arrive(LOUD, 5, backlogged=True) == expected
    assert driver.arrive(LOUD, 5) == 5


def test_a_constant_latency_is_not_degraded(driver):
    driver.speed_up(20, latency=0.02)
    driver.arrive(QUIET)

    assert driver.arrive(LOUD, 5, backlogged=True) == 5


def test_a_single_active_project_may_have_a_backlog(driver):
    driver.arrive(LOUD, 500)
    driver.slow_down(5)

    assert driver.arrive(LOUD, 5, backlogged=True) == 5


def test_a_backlogged_project_is_admitted_while_no_request_is_open(driver):
    driver.speed_up(latency=0.004)
    driver.speed_up(latency=0.02)

    assert driver.arrive(LOUD, backlogged=True) == 1


def test_limit_and_rejections_are_measured(driver):
    def rejections():
        return REGISTRY.get_sample_value("sluice_admission_rejections_total", {"reason": "over_limit"}) or 0

    before = rejections()
    driver.arrive(LOUD, 500)
    driver.slow_down(20)
    driver.activate(QUIET)
    driver.arrive(LOUD, 7)

    assert rejections() == before + 7
    assert REGISTRY.get_sample_value("sluice_admission_limit") == driver.admission._limit < 500
