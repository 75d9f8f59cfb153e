"""What `make kube-install` compares: sent and stored objects, and what it does in place of controllers."""

import pytest

from tests.kubernetes.objects import (
    as_stored,
    counts,
    differences,
    group_path,
    job_status,
    pod_of,
    value_at,
    with_value,
)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"replicas": 2}, {"replicas": 2, "paused": False}),
        ({"ports": [{"port": "ops"}]}, {"ports": [{"port": "ops", "protocol": "TCP"}]}),
        ({"labels": {}, "to": [], "value": "", "none": None}, {}),
    ],
)
def test_what_the_server_adds_and_empty_fields_are_no_difference(sent, stored):
    assert list(differences(sent, stored)) == []


@pytest.mark.parametrize(
    ("sent", "stored", "expected"),
    [
        ({"spec": {"replicas": 2}}, {"spec": {"replicas": 1}}, "spec.replicas: 2, 1"),
        ({"spec": {"replicas": 0}}, {"spec": {}}, "spec.replicas: 0, None"),
        ({"env": [{"name": "a"}, {"name": "b"}]}, {"env": [{"name": "a"}, {"name": "c"}]}, "env.1.name: 'b', 'c'"),
        ({"env": [1, 1]}, {"env": [1]}, "env: [1, 1], [1]"),
        ({"env": [1]}, {"env": [1, 2]}, "env: [1], [1, 2]"),
        ({"labels": {}}, {"labels": "text"}, "labels: {}, 'text'"),
    ],
)
def test_a_field_that_is_stored_otherwise_is_named_with_its_path(sent, stored, expected):
    assert list(differences(sent, stored)) == [expected]


def test_the_texts_of_a_secret_are_stored_as_data():
    sent = {"kind": "Secret", "data": {"a": "Yg=="}, "stringData": {"tls": "enable"}}

    assert as_stored(sent) == {"kind": "Secret", "data": {"a": "Yg==", "tls": "ZW5hYmxl"}}
    assert as_stored({"kind": "Service"}) == {"kind": "Service"}


def test_kinds_are_counted_and_groups_have_paths():
    assert counts([{"kind": "Service"}, {"kind": "Job"}, {"kind": "Service"}]) == {"Job": 1, "Service": 2}
    assert (group_path("v1"), group_path("apps/v1")) == ("/api/v1", "/apis/apps/v1")


def test_a_value_is_found_by_its_path_and_changed_in_a_copy():
    document = {"spec": {"ports": [{"port": 80}]}}

    assert value_at(document, "spec.ports.0.port") == 80
    assert [value_at(document, path) for path in ("spec.ports.1.port", "a.b", "spec.ports.0.name")] == [None] * 3
    assert with_value(document, "spec.ports.0.port", 81) == {"spec": {"ports": [{"port": 81}]}}
    assert document == {"spec": {"ports": [{"port": 80}]}}


def test_a_pod_has_the_labels_and_the_specification_of_its_workload():
    template = {"metadata": {"labels": {"a": "b"}, "creationTimestamp": None}, "spec": {"containers": []}}

    assert pod_of({"metadata": {"name": "sluice-setup"}, "spec": {"template": template}}) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "sluice-setup-", "labels": {"a": "b"}},
        "spec": {"containers": []},
    }


@pytest.mark.parametrize(
    ("outcome", "conditions"),
    [("Complete", ["SuccessCriteriaMet", "Complete"]), ("Failed", ["FailureTarget", "Failed"])],
)
def test_a_job_ends_with_the_condition_that_the_server_wants_before_its_end(outcome, conditions):
    status = job_status(outcome, "2026-11-29T10:00:00Z")

    assert [each["type"] for each in status["conditions"]] == conditions
    assert ("completionTime" in status) is (outcome == "Complete")
