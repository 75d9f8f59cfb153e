"""The health of a provider as ``/v1`` shows it."""

from __future__ import annotations

from datetime import datetime
from operator import itemgetter

from gateway.kit.responses import rfc3339
from gateway.providers.v1_schemas import (
    DestinationHealthResponse,
    EvidenceNumbersResponse,
    HealthResponse,
    ProbesResponse,
    ProviderReceiptsResponse,
    RampResponse,
    ReceiptEvidenceResponse,
    SeedHealthResponse,
    ThresholdsResponse,
)
from sluice.bus.messages import HealthEvidence, HealthState, ProviderHealth, ReceiptEvidence
from sluice.store.provider_receipts import ProviderReceipts


def serialize_health(health: ProviderHealth | None, now: datetime) -> HealthResponse:
    """The newest status; one without attempts is healthy."""
    known = health or HealthState(status="healthy")
    return HealthResponse(
        status=known.status,
        reason=known.reason,
        since=_time(known.since),
        error_rate=known.error_rate,
        samples=known.effective_samples,
        probe_at=_time(known.probe_at),
        suspended_until=None if health is None else _time(health.suspended_until),
        evidence=_evidence(HealthEvidence() if health is None else health.evidence),
        probes=None if health is None else _probes(health),
        ramp=_ramp(known, now),
        destinations=[]
        if health is None
        else [_destination(*one) for one in sorted(health.destinations.items(), key=itemgetter(0))],
        seed=None if health is None else _seed(health.seed),
        updated_at=None if health is None else rfc3339(health.updated_at),
    )


def _destination(name: str, state: HealthState) -> DestinationHealthResponse:
    return DestinationHealthResponse(
        destination=name,
        status=state.status,
        reason=state.reason,
        since=_time(state.since),
        error_rate=state.error_rate,
        samples=state.effective_samples,
    )


def _seed(state: HealthState | None) -> SeedHealthResponse | None:
    if state is None:
        return None
    return SeedHealthResponse(
        status=state.status,
        reason=state.reason,
        error_rate=state.error_rate,
        attempts=round(state.effective_samples),
        out_until=_time(state.probe_at),
    )


def _evidence(evidence: HealthEvidence) -> EvidenceNumbersResponse:
    latency, thresholds = evidence.usual_latency, None
    if evidence.unhealthy_error_rate:
        thresholds = ThresholdsResponse(degraded=evidence.degraded_error_rate, unhealthy=evidence.unhealthy_error_rate)
    return EvidenceNumbersResponse(
        failures=evidence.failures,
        slow_calls=evidence.slow_calls,
        usual_latency_ms=None if latency is None else round(latency * 1000),
        consecutive_failures=evidence.consecutive_failures,
        cause=evidence.cause or None,
        thresholds=thresholds,
        not_counted=dict(evidence.not_counted),
        receipts=_receipts(evidence.receipts),
    )


def _receipts(evidence: ReceiptEvidence | None) -> ReceiptEvidenceResponse | None:
    if evidence is None:
        return None
    return ReceiptEvidenceResponse(
        recent_share=evidence.recent_share,
        usual_share=evidence.usual_share,
        late_failures=evidence.late_failures,
        wait_s=evidence.wait,
        silent_since=_time(evidence.silent_since),
    )


def _probes(health: ProviderHealth) -> ProbesResponse | None:
    if health.status == "healthy":
        return None
    return ProbesResponse(
        next_at=_time(health.probe_at),
        interval_s=health.probe_interval,
        ended=health.probe_results,
        successes=health.evidence.probe_successes,
        needed=health.evidence.probes_needed,
    )


def _ramp(health: HealthState, now: datetime) -> RampResponse | None:
    """The share as the selection computes it; none once it is full."""
    begins, ends = health.healthy_since, health.full_share_at
    if begins is None or ends is None or now >= ends or ends <= begins:
        return None
    share = max(0.0, (now - begins) / (ends - begins))
    return RampResponse(since=rfc3339(begins), full_share_at=rfc3339(ends), share=round(share, 3))


def serialize_receipts(receipts: ProviderReceipts | None) -> ProviderReceiptsResponse:
    """What is known of the receipts of a provider; nothing of one that was never used."""
    if receipts is None:
        receipts = ProviderReceipts(None, 0, None, None, 0)
    return ProviderReceiptsResponse(
        received_at=_time(receipts.received_at),
        accepted_since=receipts.accepted_count,
        silent_since=_time(receipts.silent_since),
        refused=receipts.refused_count,
        refused_at=_time(receipts.refused_at),
    )


def _time(when: datetime | None) -> str | None:
    return None if when is None else rfc3339(when)
