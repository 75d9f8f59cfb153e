"""The measures that decide, under their stable names, with what must be reached. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the table that decides."""

    name: str
    words: str
    must: float
    goal: float
    at_least: bool  # False: at most

    def reached(self, value: float) -> str:
        """``goal``, ``must`` or ``missed``."""
        for word, bound in (("goal", self.goal), ("must", self.must)):
            if value >= bound if self.at_least else value <= bound:
                return word
        return "missed"


def _least(name: str, words: str, must: float, goal: float) -> Measure:
    return Measure(name, words, must, goal, True)


def _most(name: str, words: str, must: float, goal: float) -> Measure:
    return Measure(name, words, must, goal, False)


MEASURES = (
    _least("saturation_over_floor_k", "end-to-end saturation / Floor K", 0.40, 0.60),
    _least("saturation_over_celery", "end-to-end saturation / Celery + Redis", 3.0, 5.0),
    _least("saturation_over_floor_c", "end-to-end saturation / Floor C (Taskiq)", 0.9, 1.5),
    _most("python_cpu_over_floor_k", "CPU-s per 1,000 messages, all our Python roles / Floor K's own", 2.2, 1.5),
    _most("postgres_cpu_over_python", "PostgreSQL's CPU-s per 1,000 / all our Python roles'", 0.6, 0.35),
    _most("accept_p99_over_floor_k", "accept p99 at half load / Floor K's at the same rate", 2.5, 1.5),
    _most("provider_p99_over_floor_k", "send -> provider p99 at half load / Floor K's at the same rate", 4.0, 2.5),
    _least("one_partition_over_littles_law", "one partition, 200 ms provider: achieved / Little's law", 0.85, 0.95),
    _least("failover_throughput_over_before", "failover: throughput in fault / before", 0.85, 0.95),
    _most("failover_late_percent", "failover: later than 5 s, per cent", 0.5, 0.2),
    _most("failover_lost", "failover: lost", 0, 0),
    _most("hang_email_p99_over_before", "hang on SMS: e-mail p99 during / before", 1.3, 1.1),
    _least("drain_over_saturation", "backlog: drain rate / saturation", 0.85, 1.0),
    _least("overload_goodput_over_saturation", "overload 2 x: goodput / saturation", 0.85, 0.95),
    _most("overload_quiet_tenant_p99_over_alone", "overload 2 x: quiet tenant's p99 / alone", 3.0, 1.5),
    _most("memory_idle_mb", "memory of all our processes, idle, MB", 700, 450),
    _most("memory_saturation_mb", "memory of all our processes, at saturation, MB", 1000, 700),
    _most("cost_million_rows_over_ten_thousand", "cost per message, 10^6 rows / 10^4 rows", 1.2, 1.05),
)

BY_NAME = {measure.name: measure for measure in MEASURES}
