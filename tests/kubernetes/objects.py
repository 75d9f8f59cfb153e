"""Kubernetes objects as plain data: their names, what is stored of them, what a controller makes of them."""

from __future__ import annotations

import base64
import copy
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

Document = dict[str, Any]
_EMPTY: tuple[Any, ...] = (None, "", [], {})


def identity(document: Document) -> tuple[str, str]:
    """Its kind and name."""
    return document["kind"], document["metadata"]["name"]


def counts(documents: Iterable[Document]) -> dict[str, int]:
    """By kind, in alphabetical order, the number of documents."""
    return dict(sorted(Counter(each["kind"] for each in documents).items()))


def group_path(version: str) -> str:
    """Where the API server has the resources of an `apiVersion`."""
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def as_stored(document: Document) -> Document:
    """A document as the server stores it: the texts of a Secret are data."""
    texts = {name: base64.b64encode(text.encode()).decode() for name, text in document.get("stringData", {}).items()}
    kept = {name: value for name, value in document.items() if name != "stringData"}
    return {**kept, "data": document.get("data", {}) | texts} if texts else kept


def differences(sent: Any, stored: Any, at: str = "") -> Iterator[str]:
    """The fields of ``sent`` that are not stored as they were sent, as `path: sent, stored`.

    What the server adds is no difference, and neither is an empty field that it does not store.
    """
    if isinstance(sent, dict) and isinstance(stored, dict):
        for name, value in sent.items():
            yield from differences(value, stored.get(name), f"{at}.{name}" if at else name)
    elif isinstance(sent, list) and isinstance(stored, list) and len(sent) == len(stored):
        for index, (value, other) in enumerate(zip(sent, stored, strict=True)):
            yield from differences(value, other, f"{at}.{index}")
    elif sent != stored and not (stored is None and sent in _EMPTY):
        yield f"{at}: {sent!r}, {stored!r}"


def value_at(document: Any, path: str) -> Any:
    """The value at a path such as `spec.ports.0.protocol`; None: there is none."""
    for word in path.split("."):
        if isinstance(document, list):
            document = document[int(word)] if int(word) < len(document) else None
        else:
            document = (document or {}).get(word)
    return document


def with_value(document: Document, path: str, value: Any) -> Document:
    """A copy of a document with another value at a path whose last part may be new."""
    changed = copy.deepcopy(document)
    parent, _, name = path.rpartition(".")
    value_at(changed, parent)[name] = value
    return changed


def pod_of(workload: Document) -> Document:
    """The pod that the controller of a Deployment or Job creates from its template."""
    template = workload["spec"]["template"]
    metadata = {key: value for key, value in template["metadata"].items() if key in ("labels", "annotations")}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": f"{workload['metadata']['name']}-", **metadata},
        "spec": template["spec"],
    }


def job_status(outcome: str, now: str) -> Document:
    """The status that the controller gives a Job that is `Complete` or `Failed`, at the time ``now``."""
    criterion, reason = {
        "Complete": ("SuccessCriteriaMet", "CompletionsReached"),
        "Failed": ("FailureTarget", "BackoffLimitExceeded"),
    }[outcome]
    times = {"lastProbeTime": now, "lastTransitionTime": now}
    ended = {"succeeded": 1, "completionTime": now} if outcome == "Complete" else {"failed": 4}
    return {
        "startTime": now,
        **ended,
        "conditions": [
            {"type": each, "status": "True", "reason": reason, "message": reason, **times}
            for each in (criterion, outcome)
        ],
    }
