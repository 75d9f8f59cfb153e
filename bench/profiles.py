"""How long everything takes: the quick form, the full form, and any other by a factor."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Form:
    """Durations in seconds; pairs are A B, again and again, in one run."""

    name: str
    pairs: int  # of ours and Floor K
    peer_pairs: int  # of ours and each peer
    spare_pairs: int  # instead of void ones
    warm: float
    burst: float  # measured part of a saturation run, at a full window
    step: float | None  # measured part of a step of the open-loop ladder; None: the window alone decides
    fixed: float  # measured part at a fixed load
    shares: tuple[float, ...]  # of the saturation, in scenario 2
    calm: float  # before a fault
    fault: float
    after: float
    gray_pairs: int  # of calm and fault in scenario 5, while a provider hangs
    gray_calm: float
    gray_fault: float
    backlog: float  # seconds of saturation that pile up
    crash_every: float
    receipt_wait: float | None  # None: the default
    rest: float  # how long to wait for the last message


QUICK = Form(
    name="quick",
    pairs=3,
    peer_pairs=2,
    spare_pairs=1,
    warm=1.5,
    burst=4.0,
    step=None,
    fixed=6.0,
    shares=(0.5,),
    calm=6.0,
    fault=12.0,
    after=3.0,
    gray_pairs=3,
    gray_calm=3.0,
    gray_fault=4.0,
    backlog=5.0,
    crash_every=5.0,
    receipt_wait=5.0,
    rest=45.0,
)
FULL = Form(
    name="full",
    pairs=5,
    peer_pairs=5,
    spare_pairs=5,
    warm=5.0,
    burst=10.0,
    step=8.0,
    fixed=20.0,
    shares=(0.25, 0.5, 0.8),
    calm=20.0,
    fault=60.0,
    after=20.0,
    gray_pairs=5,
    gray_calm=10.0,
    gray_fault=20.0,
    backlog=60.0,
    crash_every=20.0,
    receipt_wait=None,
    rest=240.0,
)


def paced(form: Form, factor: float) -> Form:
    """The same with other durations, for trying things out: what it finds is not to be quoted."""
    if factor == 1.0:
        return form
    return replace(
        form,
        name=f"{form.name} x {factor:g}",
        warm=form.warm * factor,
        burst=form.burst * factor,
        step=form.step * factor if form.step else None,
        fixed=form.fixed * factor,
        calm=form.calm * factor,
        fault=form.fault * factor,
        after=form.after * factor,
        gray_calm=form.gray_calm * factor,
        gray_fault=form.gray_fault * factor,
        backlog=form.backlog * factor,
        crash_every=form.crash_every * factor,
    )
