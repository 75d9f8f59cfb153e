"""What is checked of the chart on an API server, for each set of values in a namespace of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.check_results import result_of
from tests.deploy.chart import CHART, VALUE_SETS
from tests.kubernetes.api import Refused
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.objects import Document, as_stored, counts, differences, identity, value_at, with_value
from tests.kubernetes.release import NAME, HelmFailed, Release

_EACH = {"Deployment": 7, "PodDisruptionBudget": 7, "Service": 2, "ServiceAccount": 1}
_POLICIES = {"NetworkPolicy": 6}
_KEDA = {"Secret": 1, "TriggerAuthentication": 1}
OBJECTS: dict[str, dict[str, int]] = {
    "default": _EACH | _POLICIES,
    "minimal": _EACH,
    "managed": _EACH | _KEDA | {"Deployment": 8, "NetworkPolicy": 7, "ScaledObject": 1},  # with the pod for commands
    "scaled": _EACH
    | _POLICIES
    | _KEDA
    | {"ConfigMap": 1, "HorizontalPodAutoscaler": 1, "Ingress": 1, "PrometheusRule": 1, "ScaledObject": 5}
    | {"ServiceMonitor": 1},
}
"""By set of values, the number of objects of each kind; the Job `setup`, its ConfigMap and its
ServiceAccount are hooks and come and go."""

DEFAULTS: dict[tuple[str, str], dict[str, Any]] = {
    ("Deployment", "sluice-router"): {
        "spec.progressDeadlineSeconds": 600,
        "spec.template.spec.dnsPolicy": "ClusterFirst",
        "spec.template.spec.restartPolicy": "Always",
        "spec.template.spec.containers.0.ports.0.protocol": "TCP",
        "spec.template.spec.containers.0.readinessProbe.httpGet.scheme": "HTTP",
    },
    ("Service", "sluice-gateway"): {"spec.ports.0.protocol": "TCP", "spec.ipFamilyPolicy": "SingleStack"},
    ("Service", "sluice-ops"): {"spec.clusterIP": "None", "spec.ports.0.protocol": "TCP"},
}
"""By object, fields that the chart leaves to the server or that the server must not change."""

PRIORITY_CLASS: Document = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": "sluice"},
    "value": 1000,
}
"""What the set `managed` names and does not create."""

WRONG: dict[str, tuple[str, str, Any, str]] = {
    "negative_replicas": ("Deployment", "spec.replicas", -1, "must be greater than or equal to 0"),
    "unknown_field": ("Deployment", "spec.replica", 1, 'unknown field "spec.replica"'),
    "foreign_selector": ("Deployment", "spec.selector.matchLabels.a", "b", "does not match template"),
    "text_as_replicas": ("ScaledObject", "spec.maxReplicaCount", "many", "spec.maxReplicaCount"),
    "trigger_without_type": ("ScaledObject", "spec.triggers", [{"metadata": {}}], "spec.triggers[0].type"),
    "secret_without_key": ("TriggerAuthentication", "spec.secretTargetRef", [{"name": "a"}], "secretTargetRef[0]"),
    "interval_without_unit": ("ServiceMonitor", "spec.endpoints", [{"interval": "15"}], "spec.endpoints[0].interval"),
    "rule_without_expression": ("PrometheusRule", "spec.groups", [{"name": "a", "rules": [{}]}], "rules[0].expr"),
}
"""By name, a kind, the value that one of its fields gets, and what the server must answer."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The release of a set of values, and what its namespace had before."""

    name: str
    release: Release
    values: Sequence[str | Path]
    before: set[tuple[str, str]]

    @classmethod
    def of(cls, cluster: Cluster, name: str, values: Sequence[str | Path]) -> Subject:
        """In a new namespace."""
        release = Release(cluster, f"chart-{name}")
        return cls(name, release, values, _names(release))


def every_document_is_accepted(subject: Subject) -> dict[str, Any]:
    """By the server's strict validation, with all hooks, and without a warning."""
    rendered = subject.release.rendered(subject.values)
    responses = [subject.release.api.create(each, subject.release.namespace, dryRun="All") for each in rendered]
    warnings = [warning for each in responses for warning in each.headers.get_list("warning")]
    assert warnings == [], warnings
    return {"documents": len(rendered)}


def is_installed(subject: Subject) -> dict[str, Any]:
    """Every object is stored as it is rendered, after the Job, and every pod would be admitted."""
    release = subject.release
    early = release.act("install", NAME, CHART, *subject.values)
    assert early == [], "a role was there before its schema"
    objects = _stored_as_sent(subject)
    assert objects == OBJECTS[subject.name], objects
    for each in release.deployments():
        release.admit_pod(each)
    return {"objects": objects, "total": sum(objects.values()), "pods": len(release.deployments()) + 1}


def the_notes_name_what_is_there(subject: Subject) -> dict[str, Any]:
    """And how to get the pod for commands, where there is none."""
    notes = subject.release.helm("get", "notes", NAME)
    named = set(re.findall(r" (?:deploy|deployment|service)/(\S+)", notes))
    missing = named - {name for _, name in _names(subject.release)}
    assert missing == (set() if subject.name == "managed" else {"sluice-cli"}), missing
    assert ("--set cli.enabled=true" in notes) == bool(missing), notes
    return {"named": sorted(named)}


def has_the_defaults_of_the_server(subject: Subject) -> dict[str, Any]:
    """Fields that the chart leaves to the server have the values that it counts on."""
    stored = {identity(each): each for each in subject.release.api.everything(subject.release.namespace)}
    found = {key: {path: value_at(stored[key], path) for path in fields} for key, fields in DEFAULTS.items()}
    assert found == DEFAULTS, found
    return {"fields": sum(map(len, found.values()))}


def an_upgrade_without_a_change_changes_nothing(subject: Subject) -> dict[str, Any]:
    """No object gets another version, hence no pod is replaced."""
    before = _versions(subject.release)
    subject.release.act("upgrade", NAME, CHART, *subject.values)
    after = _versions(subject.release)
    assert after == before, {each: version for each, version in after.items() if version != before.get(each)}
    return {"unchanged": len(before)}


def is_upgraded(subject: Subject) -> dict[str, Any]:
    """To another image, after the Job."""
    before = subject.release.deployments()
    assert _upgrade(subject, "next") == before, "a role was changed before its schema"
    objects = _stored_as_sent(subject)
    assert objects == OBJECTS[subject.name], objects
    assert _images(subject.release) == {"sluice:next"}, _images(subject.release)
    return {"total": sum(objects.values())}


def a_failed_setup_changes_nothing(subject: Subject) -> dict[str, Any]:
    """When the Job fails, helm fails, and the roles are those of before."""
    before = subject.release.deployments()
    answer = _refusal(partial(_upgrade, subject, "broken", outcome="Failed"))
    assert "pre-upgrade hooks failed" in answer, answer
    assert subject.release.deployments() == before, "a role was changed"
    return {"helm": answer[-120:]}


def is_rolled_back(subject: Subject) -> dict[str, Any]:
    """To the first revision, after the Job."""
    before = subject.release.deployments()
    assert subject.release.act("rollback", NAME, "1") == before, "a role was changed before its schema"
    assert subject.release.documents() == subject.release.documents(1), "it is another revision"
    objects = _stored_as_sent(subject)
    assert objects == OBJECTS[subject.name], objects
    return {"total": sum(objects.values())}


def is_uninstalled(subject: Subject) -> dict[str, Any]:
    """The namespace has what it had before."""
    subject.release.helm("uninstall", NAME)
    left = _names(subject.release) - subject.before
    assert left == set(), left
    return {"left": len(left)}


CHECKS: tuple[Callable[[Subject], dict[str, Any]], ...] = (
    every_document_is_accepted,
    is_installed,
    the_notes_name_what_is_there,
    has_the_defaults_of_the_server,
    an_upgrade_without_a_change_changes_nothing,
    is_upgraded,
    a_failed_setup_changes_nothing,
    is_rolled_back,
    is_uninstalled,
)


def an_installation_can_get_other_values(cluster: Cluster) -> dict[str, Any]:
    """An installation gets each other set of values, and its first again."""
    subject = Subject.of(cluster, "changing", ())
    release = subject.release
    release.act("install", NAME, CHART)
    replicas = {"default": _replicas(release)}
    for name in ("scaled", "managed", "minimal"):
        release.act("upgrade", NAME, CHART, *VALUE_SETS[name])
        assert _stored_as_sent(subject) == OBJECTS[name]
        replicas[name] = _replicas(release)
    release.act("rollback", NAME, "1")
    assert _stored_as_sent(subject) == OBJECTS["default"]
    assert _replicas(release) == replicas["default"]
    is_uninstalled(subject)
    return {"replicas_of_the_router": {name: each["sluice-router"] for name, each in replicas.items()}}


def an_upgrade_keeps_what_an_autoscaler_has_set(cluster: Cluster) -> dict[str, Any]:
    """The number of replicas is not the chart's once a role is scaled."""
    subject = Subject.of(cluster, "autoscaled", VALUE_SETS["scaled"])
    release = subject.release
    release.act("install", NAME, CHART, *subject.values)
    router = f"/apis/apps/v1/namespaces/{release.namespace}/deployments/sluice-router"
    release.api.call("PATCH", router, {"spec": {"replicas": 5}}, "application/merge-patch+json")
    _upgrade(subject, "next")
    assert _replicas(release)["sluice-router"] == 5, _replicas(release)
    return {"replicas": 5}


def what_is_wrong_is_refused(cluster: Cluster) -> dict[str, Any]:
    """A check that accepts everything would pass as well: the server refuses objects with one fault."""
    release = Release(cluster, "wrong")
    documents = {each["kind"]: each for each in release.rendered(VALUE_SETS["scaled"])}
    for name, (kind, path, value, expected) in WRONG.items():
        wrong = with_value(documents[kind], path, value)
        answer = _refusal(partial(release.api.create, wrong, release.namespace, dryRun="All"))
        assert expected in answer, (name, answer)
    job = with_value(documents["Job"], "spec.template.spec.serviceAccountName", "default")  # its own is a hook
    pods = {
        "violates PodSecurity": with_value(job, "spec.template.spec.hostNetwork", True),
        'serviceaccount "sluice" not found': documents["Deployment"],  # which the release makes
    }
    for expected, workload in pods.items():
        answer = _refusal(partial(release.admit_pod, workload))
        assert expected in answer, answer
    return {"refused": [*WRONG, *pods]}


def run_checks(cluster: Cluster, results: dict[str, dict[str, Any]], progress: Callable[[str], None]) -> None:
    """Add the result of each check to ``results``. A check that fails does not end the others."""

    def run(name: str, check: Callable[[], dict[str, Any]]) -> None:
        results[name] = result_of(check)
        progress(f"{name}: {results[name]}")

    assert set(OBJECTS) == set(VALUE_SETS), "a set of values is not checked"
    cluster.api.create(PRIORITY_CLASS)
    for set_name, values in VALUE_SETS.items():
        subject = Subject.of(cluster, set_name, values)
        for check in CHECKS:
            run(f"{set_name}.{check.__name__}", partial(check, subject))
    for each in (
        an_installation_can_get_other_values,
        an_upgrade_keeps_what_an_autoscaler_has_set,
        what_is_wrong_is_refused,
    ):
        run(each.__name__, partial(each, cluster))


def _refusal(request: Callable[[], object]) -> str:
    """What the server or helm refuses a request with.

    Raises:
        AssertionError: it is accepted.
    """
    try:
        request()
    except (Refused, HelmFailed) as fault:
        return str(fault)
    raise AssertionError("it is accepted")


def _upgrade(subject: Subject, tag: str, outcome: str = "Complete") -> list[Document]:
    """Upgrade to another image; returns the Deployments that were there during the Job."""
    image = ("--set", f"image.tag={tag},image.digest=")
    return subject.release.act("upgrade", NAME, CHART, *subject.values, *image, outcome=outcome)


def _stored_as_sent(subject: Subject) -> dict[str, int]:
    """The number of the release's objects by kind. Each has every field that helm has sent, and there are no others."""
    release = subject.release
    documents = release.documents()
    for each in documents:
        different = list(differences(as_stored(each), release.api.stored(each, release.namespace)))
        assert different == [], (identity(each), different)
    own = {(kind, name) for kind, name in _names(release) if not name.startswith("sh.helm.release.")}
    other = own ^ (subject.before | {identity(each) for each in documents})
    assert other == set(), other
    return counts(documents)


def _names(release: Release) -> set[tuple[str, str]]:
    return {identity(each) for each in release.api.everything(release.namespace)}


def _versions(release: Release) -> dict[tuple[str, str], str]:
    stored = (release.api.stored(each, release.namespace) for each in release.documents())
    return {identity(each): each["metadata"]["resourceVersion"] for each in stored}


def _images(release: Release) -> set[str]:
    return {each["spec"]["template"]["spec"]["containers"][0]["image"] for each in release.deployments()}


def _replicas(release: Release) -> dict[str, int]:
    return {each["metadata"]["name"]: each["spec"]["replicas"] for each in release.deployments()}
