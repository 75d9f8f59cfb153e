"""The bulkhead of one provider: its concurrency limit and the jobs that wait for a slot.

Pure: no clock, no I/O. Times are seconds of a monotonic clock that the caller reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from math import inf
from typing import Generic, TypeVar

# A provider is unresponsive when none of its calls, and no step of one, has ended for this multiple of its average
# latency.
# With fewer calls than the minimum the average says too little, and the full queue timeout applies.
_MIN_SAMPLE = 10
_LATENCY_MULTIPLE = 5.0
_MIN_QUEUE_TIMEOUT = 0.25  # seconds
_OVERDUE_CALLS = 3
_MIN_OVERDUE = 0.5  # seconds
_LATENCY_WEIGHT = 0.1  # of the newest call in the average

J = TypeVar("J")


class Bulkhead(Generic[J]):
    """Bounds the calls in flight at one provider, so that a slow provider delays only its own jobs.

    A job is enqueued, acquires a slot, starts its call, and releases the slot. Urgent jobs acquire slots first;
    within a rank the order is that of arrival. With a ``call_rate`` (in a second, by all workers) a slot also takes
    the job's number of the permits that :meth:`grant` adds: one, or one for each segment.
    """

    def __init__(self, concurrency: int, *, call_rate: int | None = None, version: int = 0) -> None:
        self._concurrency = concurrency
        self._call_rate = call_rate
        self._permits: deque[float] = deque()  # the end of each one's validity
        self._permitted: dict[J, float] = {}  # the earliest of them, of the permits of each slot
        self._needs: dict[J, int] = {}  # the permits of each job that needs several
        self._late: dict[J, None] = {}  # have a slot whose permit has ended before the call began
        self._available = concurrency
        self._version = version
        self._urgent: deque[tuple[float, J]] = deque()  # (enqueued at, job)
        self._standard: deque[tuple[float, J]] = deque()
        self._calls: dict[J, float] = {}  # the start of each call, or of the step that it is at
        self._throttled_until = 0.0
        self._saturated_since = inf
        self._unresponsive = False
        self._reported_at = -inf
        self._average_latency = inf
        self._ended_at = -inf  # the last call that ended

    @property
    def concurrency(self) -> int:
        """The number of slots."""
        return self._concurrency

    @property
    def call_rate(self) -> int | None:
        """The most permits of calls that may start in a second, by all workers; None: any number."""
        return self._call_rate

    @property
    def version(self) -> int:
        """The version of the configuration that set the concurrency."""
        return self._version

    @property
    def saturated(self) -> bool:
        """Whether every slot is taken."""
        return self._available <= 0

    @property
    def used(self) -> int:
        """The slots that are taken."""
        return self._concurrency - self._available

    @property
    def waiting(self) -> int:
        """The jobs that wait for a slot."""
        return len(self._urgent) + len(self._standard)

    @property
    def idle(self) -> bool:
        """Whether a slot is free and no job waits."""
        return self._available > 0 and not self._urgent and not self._standard

    @property
    def unresponsive(self) -> bool:
        """The result of the last :meth:`check`; reset when a slot is released."""
        return self._unresponsive

    def resize(self, concurrency: int, *, call_rate: int | None = None, version: int) -> None:
        """Change the number of slots and the call rate. Calls in flight beyond them finish normally."""
        self._call_rate = call_rate
        self._available += concurrency - self._concurrency
        self._concurrency, self._version = concurrency, version
        if self._available > 0:
            self._saturated_since, self._unresponsive = inf, False

    def enqueue(self, job: J, now: float, *, urgent: bool, permits: int = 1) -> None:
        """Add a job behind those of its rank; with a call rate its call needs so many ``permits``."""
        if permits > 1:
            self._needs[job] = permits
        (self._urgent if urgent else self._standard).append((now, job))

    def acquire(self, now: float) -> J | None:
        """Take a slot for the next job.

        None if no slot is free, no job waits, the provider is throttled, or there is no permit.
        """
        if self._available <= 0 or self._throttled_until > now:
            return None
        queue = self._urgent or self._standard
        if not queue or not self._has_permits(queue[0][1], now):
            return None
        self._available -= 1
        if self._available <= 0:
            self._saturated_since = now
        job = queue.popleft()[1]
        if self._call_rate is not None:
            self._permitted[job] = self._take_permits(job)
        return job

    def _has_permits(self, job: J, now: float) -> bool:
        if self._call_rate is None:
            return True
        self._drop_permits(now)
        return len(self._permits) >= self._needed(job) + sum(map(self._needed, self._late))

    def _needed(self, job: J) -> int:
        # A call of more segments than the provider takes in a second gets a second of its own.
        return min(self._needs.get(job, 1), self._call_rate or 1)

    def _take_permits(self, job: J) -> float:
        """The time until which the job's permits are valid: they are taken in the order of their ends."""
        return min(self._permits.popleft() for _ in range(self._needed(job)))

    def _drop_permits(self, now: float) -> None:
        while self._permits and self._permits[0] < now:
            self._permits.popleft()

    def wanted(self, now: float) -> int:
        """The permits that would be used at once."""
        if self._call_rate is None:
            return 0
        self._drop_permits(now)
        if self._needs:
            needed = sum(map(self._needed, self._startable(now)))
        else:  # the same, without a look at each job
            startable = 0 if self._throttled_until > now else min(self.waiting, max(0, self._available))
            needed = startable + len(self._late)
        return max(0, needed - len(self._permits))

    def least(self, now: float) -> int:
        """The permits without which the call that is next cannot start; 0 if none waits for any."""
        self._drop_permits(now)
        following = next(iter(self._startable(now)), None)
        return 0 if following is None else max(0, self._needed(following) - len(self._permits))

    def _startable(self, now: float) -> Iterator[J]:
        """The jobs whose calls would start with enough permits, in their order."""
        yield from self._late
        if self._throttled_until <= now:
            waiting = (job for _, job in chain(self._urgent, self._standard))
            yield from islice(waiting, max(0, self._available))

    def grant(self, permits: int, until: float) -> None:
        """Add permits that are valid before ``until``."""
        self._permits.extend([until] * permits)

    def may_call(self, job: J, now: float) -> bool:
        """Whether the call of a job that has a slot may start: its permit is still valid, or it gets another one."""
        if self._call_rate is None or self._permitted.get(job, -inf) >= now:
            return True
        self._drop_permits(now)
        if len(self._permits) < self._needed(job):
            self._late.setdefault(job)
            return False
        self._late.pop(job, None)
        self._permitted[job] = self._take_permits(job)
        return True

    def start_call(self, job: J, now: float) -> None:
        """Note that the job's call starts. Until then its slot is no evidence against the provider."""
        self._calls[job] = now

    def begin_step(self, job: J, now: float) -> None:
        """Note that a step of the job's call begins. The one before it has ended, so this call does not hang.

        It says nothing about other calls: every call begins with a step, also at a provider that answers nothing, and
        a mail server may answer each command and never the end of a mail.
        """
        if job in self._calls:
            self._calls[job] = now

    def release(self, job: J, now: float) -> None:
        """Return the job's slot, whether its call started or not."""
        self._permitted.pop(job, None)
        self._late.pop(job, None)
        self._needs.pop(job, None)
        if self._calls.pop(job, None) is not None:
            self._ended_at = now
        self._available += 1
        # After a resize to fewer slots, a released one may still leave none.
        self._saturated_since = inf if self._available > 0 else now
        self._unresponsive = False

    def record_latency(self, seconds: float) -> None:
        """Add the duration of an answered call to the average."""
        previous = seconds if self._average_latency == inf else self._average_latency
        self._average_latency = (1 - _LATENCY_WEIGHT) * previous + _LATENCY_WEIGHT * seconds

    def throttle(self, until: float) -> None:
        """Start no call before ``until``, or before an earlier request's later time."""
        self._throttled_until = max(self._throttled_until, until)

    def throttled_for(self, now: float) -> float:
        """Seconds until a call may start; negative if it may start now."""
        return self._throttled_until - now

    def check(self, now: float, limit: float) -> None:
        """Determine whether the provider is unresponsive; ``limit`` is the full queue timeout, seconds.

        It is when every slot has a call and no step of one has ended for longer than the queue timeout, or when a few
        calls are at a step that has lasted several times longer than a call usually does, and no call has ended since
        it began. Slots that still wait for their claim do not count: that latency is PostgreSQL's.
        """
        self._unresponsive = self._has_overdue_calls(now, limit) or self._stands_still(now, limit)

    def _stands_still(self, now: float, limit: float) -> bool:
        """Whether every slot has a call, and no step of one has ended for longer than the queue timeout."""
        if len(self._calls) < self._concurrency:
            return False
        timeout = self._latency_timeout(limit)
        return now - self._saturated_since > timeout and all(now - since > timeout for since in self._calls.values())

    def _has_overdue_calls(self, now: float, limit: float) -> bool:
        if self._average_latency == inf or len(self._calls) < _OVERDUE_CALLS:
            return False
        timeout = min(limit, max(_MIN_OVERDUE, _LATENCY_MULTIPLE * self._average_latency))
        overdue = sum(self._ended_at < since < now - timeout for since in self._calls.values())
        return overdue >= _OVERDUE_CALLS

    def expired(self, now: float, limit: float) -> list[J]:
        """Remove and return the jobs that have waited longer than the queue timeout: ``limit`` seconds, or less if
        the provider is unresponsive.
        """
        timeout = self._latency_timeout(limit) if self._unresponsive else limit
        jobs = []
        for queue in (self._urgent, self._standard):
            while queue and now - queue[0][0] > timeout:
                job = queue.popleft()[1]
                self._needs.pop(job, None)
                jobs.append(job)
        return jobs

    def report(self, now: float, interval: float) -> float | None:
        """Seconds since the start of the oldest step of a call in flight, to report for an unresponsive provider.

        None if there is nothing to report, or if the last report is less than ``interval`` seconds old.
        """
        if not self._unresponsive or now - self._reported_at <= interval:
            return None
        self._reported_at = now
        return now - min(self._calls.values(), default=now)

    def _latency_timeout(self, limit: float) -> float:
        if self._concurrency < _MIN_SAMPLE:
            return limit
        return min(limit, max(_MIN_QUEUE_TIMEOUT, _LATENCY_MULTIPLE * self._average_latency))


class ObservedCall(Generic[J]):
    """One call, as its bulkhead sees it. The worker and the replay of recorded traffic report their calls to a bulkhead
    through it, so that the policy that is simulated is the one that runs.
    """

    def __init__(self, bulkhead: Bulkhead[J], job: J, now: float) -> None:
        """The call starts now. Its slot is released apart, since a job may have one without a call."""
        self._bulkhead, self._job, self._started_at = bulkhead, job, now
        bulkhead.start_call(job, now)

    def begin_step(self, now: float) -> None:
        """As a transport does before its first byte, and SMTP before each further step."""
        self._bulkhead.begin_step(self._job, now)

    def end(self, now: float, *, answered: bool) -> float:
        """Note the end of the call; returns its duration, seconds. One without an answer is no measurement."""
        duration = now - self._started_at
        if answered:
            self._bulkhead.record_latency(duration)
        return duration
