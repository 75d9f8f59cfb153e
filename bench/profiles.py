"""Durations: the quick form, the full form, and any other by a factor."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Profile:
    """Durations in seconds; pairs alternate A B in one run."""

    name: str
    pairs: int  # of ours and Floor K
    peer_pairs: int  # of ours and each peer
    spare_pairs: int  # instead of void ones
    warm: float
    burst: float  # measured part of a saturation run, at a full window
    step: float | None  # measured part of a step of the open-loop ladder; None: the window alone decides
    fixed: float  # measured part at a fixed load
    shares: tuple[float, ...]  # of the saturation, in scenario 2
    steady: float  # before a fault
    fault: float
    after: float
    gray_pairs: int  # of calm and fault in scenario 5, while a provider hangs
    gray_steady: float
    gray_fault: float
    backlog: float  # of the load at saturation
    crash_every: float
    receipt_wait: float | None  # None: the default
    drain: float  # how long to wait for the last message


QUICK = Profile(
    name="quick",
    pairs=3,
    peer_pairs=2,
    spare_pairs=1,
    warm=1.5,
    burst=4.0,
    step=None,
    fixed=6.0,
    shares=(0.5,),
    steady=6.0,
    fault=12.0,
    after=3.0,
    gray_pairs=3,
    gray_steady=3.0,
    gray_fault=4.0,
    backlog=5.0,
    crash_every=5.0,
    receipt_wait=5.0,
    drain=45.0,
)
FULL = Profile(
    name="full",
    pairs=5,
    peer_pairs=5,
    spare_pairs=5,
    warm=5.0,
    burst=10.0,
    step=8.0,
    fixed=20.0,
    shares=(0.25, 0.5, 0.8),
    steady=20.0,
    fault=60.0,
    after=20.0,
    gray_pairs=5,
    gray_steady=10.0,
    gray_fault=20.0,
    backlog=60.0,
    crash_every=20.0,
    receipt_wait=None,
    drain=240.0,
)


def paced(profile: Profile, factor: float) -> Profile:
    """The same with other durations, for experiments: its results are not to be quoted."""
    if factor == 1.0:
        return profile
    return replace(
        profile,
        name=f"{profile.name} x {factor:g}",
        warm=profile.warm * factor,
        burst=profile.burst * factor,
        step=profile.step * factor if profile.step else None,
        fixed=profile.fixed * factor,
        steady=profile.steady * factor,
        fault=profile.fault * factor,
        after=profile.after * factor,
        gray_steady=profile.gray_steady * factor,
        gray_fault=profile.gray_fault * factor,
        backlog=profile.backlog * factor,
        crash_every=profile.crash_every * factor,
    )
