"""The Helm chart, rendered with its default and three other sets of values.

Without helm these tests are skipped; `make chart` installs it with the checkers and runs them.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from sluice.bus.topic_admin import read_topic_specs
from sluice.bus.topics import SUBSCRIPTIONS, Group, Topic
from sluice.providers.adapters.messagepipe import SMPP_LINK
from sluice.providers.contract import TransportKind
from sluice.providers.registry import PACKAGES
from sluice.runtime.settings import Settings
from sluice.store.logins import LOGINS, OPERATOR, password_setting
from sluice_cli.variables import OTHERS
from sluice_launcher.roles import ROLES
from tests.deploy.chart import CHART, VALUE_SETS
from tests.polling import wait_until
from tests.repository.configuration import variables
from tests.repository.files import ROOT

KUBERNETES = "1.37.0"
TEMPLATE = ("helm", "template", "sluice", CHART, "--namespace", "sluice", "--kube-version", KUBERNETES)
CLI = "sluice-cli"
# Kinds of operators, whose schemas are not Kubernetes' own.
FOREIGN = "ScaledObject,TriggerAuthentication,ServiceMonitor,PrometheusRule"
PRE_STOP = 5  # seconds

helm = pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not installed: `make chart` builds it")
every_set = pytest.mark.parametrize("name", VALUE_SETS)
pytestmark = helm


def run(*words, **options):
    return subprocess.run(words, capture_output=True, text=True, timeout=120, **options)


def template(*words):
    return run(*TEMPLATE, *words)


@cache
def text(name):
    done = template(*VALUE_SETS[name])
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def rendered(name):
    return [document for document in yaml.safe_load_all(text(name)) if document]


def with_values(values):
    """What is rendered of the default values and these."""
    done = run(*TEMPLATE, "--values", "-", input=yaml.safe_dump(values))
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(name, kind):
    """By name, the objects of a kind in a set of values, or in ``name`` if that is a list of documents."""
    documents = rendered(name) if isinstance(name, str) else name
    return {each["metadata"]["name"]: each for each in documents if each["kind"] == kind}


def deployments(name):
    """By role, the Deployment and its only container."""
    found = {each.removeprefix("sluice-"): one for each, one in of_kind(name, "Deployment").items() if each != CLI}
    return {role: (one, one["spec"]["template"]["spec"]["containers"][0]) for role, one in found.items()}


def pods(name):
    """The pod templates of all Deployments and Jobs."""
    kinds = (*of_kind(name, "Deployment").values(), *of_kind(name, "Job").values())
    return [each["spec"]["template"] for each in kinds]


def containers(pod):
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def environment(container):
    """By name, the value of each variable or where it comes from; none is set twice."""
    found = {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}
    assert len(found) == len(container["env"])
    return found


def selects(selector, labels):
    return selector["matchLabels"].items() <= labels.items()


def test_there_are_four_sets_of_values():
    assert set(VALUE_SETS) == {"default", "minimal", "scaled", "managed"}


@every_set
def test_helm_finds_no_fault(name):
    done = run("helm", "lint", "--strict", CHART, *VALUE_SETS[name])

    assert done.returncode == 0, done.stdout


@every_set
def test_kubernetes_schemas_accept_it(name):
    kubeconform = shutil.which("kubeconform")
    if kubeconform is None:
        pytest.skip("kubeconform is not installed: `make chart` builds it")
    location = f"{Path(kubeconform).parent.parent}/schemas/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    done = run(
        kubeconform, "-strict", "-summary", "-skip", FOREIGN, "-schema-location", location, "-", input=text(name)
    )

    assert done.returncode == 0, done.stdout + done.stderr


@every_set
def test_kube_score_has_no_criticism(name):
    if shutil.which("kube-score") is None:
        pytest.skip("kube-score is not installed: `make chart` builds it")
    ignored = (
        "container-image-tag",  # of a value set without a digest
        "container-image-pull-policy",  # a release's tag does not move
        "container-security-context-user-group-id",  # stated for the pod
        "deployment-replicas",  # of a test cluster
        "statefulset-has-servicename",
        "container-ephemeral-storage-request-and-limit",  # nothing is written but a bounded memory file system
    )
    if not of_kind(name, "NetworkPolicy"):  # switched off for a test cluster
        ignored += ("pod-networkpolicy",)
    if CLI in of_kind(name, "Deployment"):  # that pod serves nothing; a test of ours is about the probes of the roles
        ignored += ("pod-probes",)
    ignore = [word for each in ignored for word in ("--ignore-test", each)]
    done = run("kube-score", "score", "--kubernetes-version", "v1.27", *ignore, "-", input=text(name))

    assert done.returncode == 0, done.stdout


def test_hadolint_finds_no_fault():
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not installed: `make chart` installs it")
    files = (ROOT / "deploy/Dockerfile", *(ROOT / "tests/containers/images").glob("*/Dockerfile"))
    for file in files:
        done = run("hadolint", file)
        assert done.returncode == 0, done.stdout


@every_set
def test_every_role_runs_with_its_login_and_its_secrets_by_reference(name):
    found = deployments(name)

    assert set(found) == {role.name for role in ROLES}
    for role in ROLES:
        deployment, container = found[role.name]
        values = environment(container)
        assert container["command"] == ["python", "-m", role.module]
        assert values["SLUICE_ROLE"] == role.name
        address = urlsplit(values["SLUICE_POSTGRES_DSN"])
        assert (address.username, address.password) == (role.login, None)
        key = role.login.removeprefix("sluice_").replace("_", "-")
        assert values["PGPASSWORD"] == {"secretKeyRef": {"name": "sluice-postgres", "key": key}}
        assert deployment["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == role.name


@every_set
def test_no_secret_is_a_value(name):
    for pod in pods(name):
        for container in containers(pod):
            plain = {key: value for key, value in environment(container).items() if isinstance(value, str)}
            secret = {key for key in plain if re.search(r"PASSWORD|_KEY$|SECRET|TOKEN$", key)}
            assert secret == set()
            assert [value for value in plain.values() if re.search(r"://[^/@]*:[^/@]*@", value)] == []


@every_set
def test_every_variable_is_a_setting_that_its_role_reads(name):
    known = variables()
    others = {each for group in OTHERS.values() for each in group} | {"PGPASSWORD"}
    for role, (_, container) in deployments(name).items():
        for variable in environment(container):
            readers = known[variable][1] if variable in known else set()
            shared = name == "scaled" and variable in ("SLUICE_PUBLIC_URL", "SLUICE_DISPATCH_QUEUE_LIMIT")
            assert variable in others or role in readers or shared, (role, variable)


def test_a_setting_is_text_or_json_and_that_of_a_role_counts():
    found = with_values(
        {
            "settings": {"SLUICE_MAX_REQUEST_BYTES": 26214400, "SLUICE_SIGN_UP": True, "SLUICE_LOG_LEVEL": 'a "b"'},
            "roles": {"gateway": {"settings": {"SLUICE_SIGN_UP": False, "SLUICE_RETRY_SCHEDULE": [5, 30]}}},
        }
    )
    gateway, health = (environment(deployments(found)[role][1]) for role in ("gateway", "health"))

    assert gateway["SLUICE_MAX_REQUEST_BYTES"] == "26214400"
    assert gateway["SLUICE_RETRY_SCHEDULE"] == "[5,30]"
    assert gateway["SLUICE_LOG_LEVEL"] == 'a "b"'
    assert (gateway["SLUICE_SIGN_UP"], health["SLUICE_SIGN_UP"]) == ("false", "true")
    assert "SLUICE_RETRY_SCHEDULE" not in health


def test_a_setting_may_be_in_a_secret():
    mail, link = {"secret": "mail", "key": "server"}, {"secret": "link", "key": "password"}
    found = with_values(
        {
            "settings": {"SLUICE_SMS_LINK_PASSWORD": "clear"},
            "secretSettings": {"SLUICE_MAIL_SERVER": mail},
            "roles": {
                "sms-worker": {"secretSettings": {"SLUICE_SMS_LINK_PASSWORD": link}},
                "health": {"settings": {"SLUICE_MAIL_SERVER": "none"}},
            },
        }
    )
    worker, health = (environment(deployments(found)[role][1]) for role in ("sms-worker", "health"))

    assert worker["SLUICE_MAIL_SERVER"] == {"secretKeyRef": {"name": "mail", "key": "server"}}
    assert worker["SLUICE_SMS_LINK_PASSWORD"] == {"secretKeyRef": {"name": "link", "key": "password"}}
    assert (health["SLUICE_MAIL_SERVER"], health["SLUICE_SMS_LINK_PASSWORD"]) == ("none", "clear")


def test_a_large_lag_is_a_whole_number():
    autoscaling = {"enabled": True, "lag": 2_000_000}
    found = with_values({"keda": {"enabled": True}, "roles": {"router": {"autoscaling": autoscaling}}})
    [scaled] = of_kind(found, "ScaledObject").values()

    assert {trigger["metadata"]["lagThreshold"] for trigger in scaled["spec"]["triggers"]} == {"2000000"}


@every_set
def test_only_roles_that_read_credentials_have_their_key(name):
    known = variables()["SLUICE_ENCRYPTION_KEY_FILE"][1]
    with_key = {
        role for role, (_, one) in deployments(name).items() if "SLUICE_ENCRYPTION_KEY_FILE" in environment(one)
    }
    mounted = {
        role
        for role, (deployment, _) in deployments(name).items()
        if any(each["name"] == "encryption" for each in deployment["spec"]["template"]["spec"]["volumes"])
    }

    assert with_key == mounted == known


@every_set
def test_a_container_is_confined_and_bounded(name):
    for pod in pods(name):
        security = pod["spec"]["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"], security["fsGroup"]) == (True, 10001, 10001)
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert set(container["resources"]) == {"requests", "limits"}
            assert {"cpu", "memory"} == set(container["resources"]["limits"])


@every_set
def test_probes_ask_the_ops_port(name):
    for role, (_, container) in deployments(name).items():
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        values = environment(container)
        assert str(ports["ops"]) == values.get("SLUICE_OPS_PORT", values["SLUICE_PORT"])
        assert ports.get("http") == (8080 if role == "gateway" else None)
        probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {probe["port"] for probe in probes.values()} == {"ops"}
        assert [probes["startup"]["path"], probes["liveness"]["path"]] == ["/livez", "/livez"]
        assert probes["readiness"]["path"] == ("/readyz?exclude=kafka" if role == "gateway" else "/readyz")


@every_set
def test_a_pod_has_more_time_to_stop_than_it_uses(name):
    used = 2 * Settings.model_fields["shutdown_timeout"].default + PRE_STOP
    for deployment, container in deployments(name).values():
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= used
        assert container["lifecycle"]["preStop"] == {"exec": {"command": ["sleep", str(PRE_STOP)]}}


@every_set
def test_every_role_survives_a_drained_node(name):
    budgets = of_kind(name, "PodDisruptionBudget")

    assert set(budgets) == {f"sluice-{role.name}" for role in ROLES}
    for role, (deployment, _) in deployments(name).items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert selects(budgets[f"sluice-{role}"]["spec"]["selector"], labels)
        spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert [selects(one["labelSelector"], labels) for one in spread] == [True, True]
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@every_set
def test_the_setup_runs_before_every_version_with_all_passwords(name):
    [job] = of_kind(name, "Job").values()
    migrate, topics = containers(job["spec"]["template"])
    values = environment(migrate)

    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade,pre-rollback"
    assert (migrate["command"], topics["command"]) == (["sluice", "migrate"], ["sluice", "create-topics"])
    assert {password_setting(login.name) for login in LOGINS} <= set(values)
    assert urlsplit(values["SLUICE_POSTGRES_OWNER_DSN"]).username == "sluice_owner"
    assert set(environment(topics)) & set(values) == set()


@every_set
def test_the_setup_has_a_service_account_before_the_release_has_one(name):
    [job] = of_kind(name, "Job").values()
    accounts = of_kind(name, "ServiceAccount")
    own = accounts.pop(job["spec"]["template"]["spec"]["serviceAccountName"])
    hooks = own["metadata"]["annotations"]

    assert hooks["helm.sh/hook"] == job["metadata"]["annotations"]["helm.sh/hook"]
    assert int(hooks["helm.sh/hook-weight"]) < int(job["metadata"]["annotations"]["helm.sh/hook-weight"])
    assert hooks["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    [account] = accounts.values()
    roles = {one["spec"]["template"]["spec"]["serviceAccountName"] for one, _ in deployments(name).values()}
    assert roles == {account["metadata"]["name"]}
    # Those by which a cloud gives an account its rights.
    assert (account["metadata"].get("annotations") or {}).items() <= hooks.items()


def test_a_service_account_may_exist_already():
    found = with_values({"serviceAccount": {"name": "own"}})

    assert of_kind(found, "ServiceAccount") == {}
    assert {pod["spec"]["serviceAccountName"] for pod in pods(found)} == {"own"}


@pytest.mark.parametrize(
    ("mechanism", "settings"),
    [
        ("OAUTHBEARER", {"SLUICE_KAFKA_OAUTH_TOKEN_URL": "https://login.example.com/token"}),
        ("AWS_MSK_IAM", {"SLUICE_KAFKA_AWS_REGION": "eu-west-1"}),
    ],
)
def test_a_login_with_tokens_is_that_of_the_setup_too(mechanism, settings):
    secret = {"AWS_SECRET_ACCESS_KEY": {"secret": "aws", "key": "key"}}
    found = with_values({"kafka": {"saslMechanism": mechanism}, "settings": settings, "secretSettings": secret})
    [job] = of_kind(found, "Job").values()
    migrate, topics = containers(job["spec"]["template"])
    router = environment(deployments(found)["router"][1])

    names = {"SLUICE_KAFKA_SASL_MECHANISM", *settings, *secret}
    assert {name: environment(topics)[name] for name in names} == {name: router[name] for name in names}
    assert names & set(environment(migrate)) == set()
    egress = of_kind(found, "NetworkPolicy")["sluice-default"]["spec"]["egress"]
    assert {"ports": [{"port": 443}]} in egress
    assert {"ports": [{"port": 443}]} not in of_kind("default", "NetworkPolicy")["sluice-default"]["spec"]["egress"]


@pytest.mark.parametrize(("name", "expected"), [("default", (8, 3)), ("minimal", (8, 1)), ("managed", (24, 3))])
def test_the_topics_are_those_of_the_image_with_the_partitions_and_replication_of_the_values(name, expected, tmp_path):
    file = tmp_path / "topics.yml"
    file.write_text(of_kind(name, "ConfigMap")["sluice-topics"]["data"]["topics.yml"])
    specs = read_topic_specs(file)
    plain = read_topic_specs()

    assert set(specs) == {topic.value for topic in Topic}
    assert (specs["send.requests"].partitions, specs["send.requests"].replication) == expected
    assert specs["provider.health"].partitions == 1
    for topic, spec in specs.items():
        added = {"min.insync.replicas": 1 if name == "minimal" else 2}
        assert spec.config == plain[topic].config | added


def test_consumers_scale_by_the_lag_of_their_groups():
    found = of_kind("scaled", "ScaledObject")
    # A role's other groups have few records, and its own name before a dot.
    groups = {f"sluice-{group.value}": topics for group, topics in SUBSCRIPTIONS.items() if "." not in group.value}
    triggers = {
        name: [each["metadata"]["topic"] for each in scaled["spec"]["triggers"]] for name, scaled in found.items()
    }

    assert triggers == {
        name: [topic.value for topic in topics]
        for name, topics in groups.items()
        if name not in (f"sluice-{Group.INGEST.value}", f"sluice-{Group.HEALTH.value}")
    }
    for name, scaled in found.items():
        for trigger in scaled["spec"]["triggers"]:
            assert f"sluice-{trigger['metadata']['consumerGroup']}" == name
            assert trigger["authenticationRef"]["name"] == "sluice-kafka"
        assert "replicas" not in of_kind("scaled", "Deployment")[name]["spec"]
    assert set(of_kind("scaled", "HorizontalPodAutoscaler")) == {"sluice-gateway"}


def test_keda_without_a_known_mechanism_needs_an_authentication_of_its_own():
    words = ("--set", "keda.enabled=true,kafka.saslMechanism=OAUTHBEARER")

    assert "keda.authentication: name a TriggerAuthentication" in template(*words).stderr
    assert template(*words, "--set", "keda.authentication=own").returncode == 0


@pytest.mark.parametrize("name", ["default", "managed"])
def test_policies_select_pods_and_open_only_named_ports(name):
    policies = {each: one["spec"] for each, one in of_kind(name, "NetworkPolicy").items()}
    labels = {
        each["metadata"]["labels"].get("app.kubernetes.io/component"): each["metadata"]["labels"] for each in pods(name)
    }

    assert all(selects(policies["sluice-default"]["podSelector"], each) for each in labels.values())
    for each, policy in policies.items():
        role = each.removeprefix("sluice-")
        if role != "default":
            assert [one for one in labels if selects(policy["podSelector"], labels[one])] == [role]
        for rule in (*policy.get("ingress", ()), *policy.get("egress", ())):
            assert rule["ports"]


def reached(found, role):
    """The ports that a role may call at any address, besides those that every role may call."""
    labels = deployments(found)[role][0]["spec"]["template"]["metadata"]["labels"]
    rules = [
        rule
        for name, each in of_kind(found, "NetworkPolicy").items()
        if name != "sluice-default" and selects(each["spec"]["podSelector"], labels)
        for rule in each["spec"].get("egress") or ()
    ]
    assert all(rule["ports"] for rule in rules)
    return {port["port"] for rule in rules if "to" not in rule for port in rule["ports"]}


def called():
    """By role, the ports at which it calls what the code calls, beside PostgreSQL, Kafka and Redis."""
    ports = {TransportKind.HTTP: {443}, TransportKind.SMTP: {25, 465, 587}, TransportKind.SMPP: {2775}}
    found = {role.name: set() for role in ROLES}
    for role, topics in SUBSCRIPTIONS.items():
        for package in (*PACKAGES.values(), SMPP_LINK):
            if {f"deliveries.{channel}" for channel in package.channels} & {topic.value for topic in topics}:
                found[role.value] |= ports.get(package.transport, set())
    # Test calls; receipts of SES and SNS name certificates and confirmations.
    found["gateway"] |= ports[TransportKind.HTTP] | ports[TransportKind.SMTP]
    known = variables()
    for role in known["SLUICE_MAIL_SERVER"][1]:
        found[role] |= ports[TransportKind.SMTP]
    for role in known["SLUICE_WEBHOOK_TIMEOUT"][1]:
        found[role] |= {80, 443}
    return found


@pytest.mark.parametrize("name", ["default", "managed"])
def test_a_role_may_reach_what_it_calls_and_nothing_else(name):
    assert {role.name: reached(name, role.name) for role in ROLES} == called()


def test_the_ports_of_what_is_called_are_values_and_without_one_none_is_open():
    values = {"providerPorts": [443, 8443], "smppPorts": [3550], "webhookPorts": [], "mailPorts": []}
    found = with_values({"networkPolicy": values})

    assert reached(found, "sms-worker") == {443, 8443, 3550}
    assert reached(found, "event-worker") == set()


def test_the_pod_for_commands_has_the_login_of_the_operator_and_the_settings_of_the_roles():
    found = with_values(
        {
            "cli": {"enabled": True},
            "settings": {"SLUICE_PUBLIC_URL": "https://api.example.com"},
            "roles": {
                "router": {"settings": {"SLUICE_RETENTION_DAYS": 0}},
                "gateway": {"secretSettings": {"SLUICE_MAIL_SERVER": {"secret": "mail", "key": "server"}}},
            },
        }
    )
    [container] = of_kind(found, "Deployment")[CLI]["spec"]["template"]["spec"]["containers"]
    values = environment(container)
    gateway = of_kind(found, "Service")["sluice-gateway"]

    address = urlsplit(values["SLUICE_POSTGRES_DSN"])
    assert (address.username, address.password) == (OPERATOR.name, None)
    assert values["PGPASSWORD"] == {"secretKeyRef": {"name": "sluice-postgres", "key": "operator"}}
    assert values["SLUICE_API_URL"] == f"http://{gateway['metadata']['name']}:{gateway['spec']['ports'][0]['port']}"
    assert (values["SLUICE_PUBLIC_URL"], values["SLUICE_RETENTION_DAYS"]) == ("https://api.example.com", "0")
    assert "SLUICE_MAIL_SERVER" not in values
    router = environment(deployments(found)["router"][1])
    shared = {name for name in router if name.startswith(("SLUICE_KAFKA", "SLUICE_REDIS"))}
    assert {name: values[name] for name in shared} == {name: router[name] for name in shared}
    folders = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert Path(values["SLUICE_ENCRYPTION_KEY_FILE"]).parent.as_posix() in folders


def test_without_a_pod_for_commands_there_is_none():
    assert CLI not in of_kind("default", "Deployment")


async def test_the_pod_for_commands_waits_until_it_is_stopped():
    [container] = of_kind("managed", "Deployment")[CLI]["spec"]["template"]["spec"]["containers"]
    process = await asyncio.create_subprocess_exec(*container["command"], start_new_session=True)
    try:
        await wait_until(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text)
        process.terminate()
        # A signal that is not handled gives another code, and a container's first process ignores it.
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_the_pod_for_commands_may_reach_the_gateway_beside_the_clients():
    policies = of_kind("managed", "NetworkPolicy")
    labels = of_kind("managed", "Deployment")[CLI]["spec"]["template"]["metadata"]["labels"]
    gateway, container = deployments("managed")["gateway"]
    [ingress] = policies["sluice-gateway"]["spec"]["ingress"]
    public, to_gateway = policies[CLI]["spec"]["egress"]

    assert selects(policies[CLI]["spec"]["podSelector"], labels)
    assert public == {"ports": [{"port": 443}]}
    assert to_gateway["ports"] == [{"port": container["ports"][0]["containerPort"]}]
    [to] = to_gateway["to"]
    assert selects(to["podSelector"], gateway["spec"]["template"]["metadata"]["labels"])
    clients, commands = ingress["from"]
    assert "namespaceSelector" in clients
    assert selects(commands["podSelector"], labels)


def test_without_policies_there_are_none():
    assert of_kind("minimal", "NetworkPolicy") == {}


def test_the_monitor_finds_the_ops_service_and_the_rules_are_those_of_the_repository():
    [monitor] = of_kind("scaled", "ServiceMonitor").values()
    services = of_kind("scaled", "Service")
    [rule] = of_kind("scaled", "PrometheusRule").values()
    base = yaml.safe_load((CHART / "values.yaml").read_text())["monitoring"]["runbookUrl"]
    own = (ROOT / "deploy/prometheus/sluice.rules.yml").read_text().replace("docs/runbook.md", f"{base}docs/runbook.md")

    matched = [
        name for name, one in services.items() if selects(monitor["spec"]["selector"], one["metadata"]["labels"])
    ]
    assert matched == ["sluice-ops"]
    assert monitor["spec"]["endpoints"][0]["port"] == services["sluice-ops"]["spec"]["ports"][0]["name"]
    assert rule["spec"] == yaml.safe_load(own)


def test_the_boards_are_those_of_the_repository():
    data = of_kind("scaled", "ConfigMap")["sluice-dashboards"]["data"]

    assert {name: json.loads(board) for name, board in data.items()} == {
        f"sluice-{file.name}": json.loads(file.read_text()) for file in (ROOT / "deploy/grafana").glob("*.json")
    }


def test_the_version_of_the_chart_is_that_of_the_program():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    [version] = re.findall(r'^version = "(.*)"$', (ROOT / "libs/common/pyproject.toml").read_text(), re.MULTILINE)

    assert (chart["version"], chart["appVersion"]) == (version, version)
