"""A Kubernetes API server with its etcd on loopback, without controllers and kubelets: nothing runs on it."""

from __future__ import annotations

import json
import secrets
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from sluice_launcher import parent_death_signal
from sluice_launcher.logs import last_line
from sluice_launcher.process_info import free_port
from tests.certificates import Authority
from tests.kubernetes.api import Api, Refused
from tests.repository.files import ROOT

DEFINITIONS = (
    "keda.sh_scaledobjects",
    "keda.sh_triggerauthentications",
    "monitoring.coreos.com_prometheusrules",
    "monitoring.coreos.com_servicemonitors",
)
"""The operators' CustomResourceDefinitions that the chart has objects of."""

_READY_TIME = 180.0  # seconds until a server responds
_STOP_TIME = 10.0  # seconds until a server is killed
_CALL_TIME = 30.0  # seconds
_POLL = 0.1  # seconds
_SERVICE_NETWORK = "10.0.0.0/24"  # Services get addresses of it, to which nothing is sent


class NotPossible(Exception):
    """This machine cannot run the check; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running API server: its resources, its version, and what its clients need."""

    api: Api
    version: str
    folder: Path
    kubeconfig: Path
    tools: Path


def install_tools() -> Path:
    """The folder of helm, etcd, kube-apiserver and the operators' definitions; they are built once.

    Raises:
        NotPossible: one cannot be built.
    """
    done = subprocess.run(["sh", ROOT / "deploy/tools/cluster.sh"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise NotPossible("helm, etcd and kube-apiserver are built with Go from their modules, which failed, see above")
    return Path(done.stdout.strip())


@contextmanager
def a_cluster(tools: Path, folder: Path) -> Iterator[Cluster]:
    """A cluster with the operators' definitions, which ends with the block. Its files and logs are in ``folder``.

    Raises:
        AssertionError: a server does not start; with the last line of its log.
    """
    token, port = secrets.token_hex(16), free_port()
    authority = Authority(folder)
    with _an_etcd(tools, folder) as etcd, _an_api_server(tools, folder, authority, etcd, port, token) as server:
        url = f"https://127.0.0.1:{port}"
        trust = ssl.create_default_context(cafile=authority.path)
        headers = {"authorization": f"Bearer {token}"}
        with httpx.Client(base_url=url, verify=trust, headers=headers, trust_env=False, timeout=_CALL_TIME) as client:
            wait_until(lambda: _is_ready(client, "/readyz"), server, folder / "kube-apiserver.log")
            api = Api(client)
            kubeconfig = folder / "kubeconfig.json"
            kubeconfig.touch(mode=0o600)
            kubeconfig.write_text(json.dumps(_kubeconfig(url, authority.path, token)))
            _define(api, tools / "definitions")
            yield Cluster(api, api.get("/version")["gitVersion"], folder, kubeconfig, tools)


@contextmanager
def _an_etcd(tools: Path, folder: Path) -> Iterator[str]:
    """Its address."""
    url, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command = [
        str(tools / "bin/etcd"),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        "--unsafe-no-fsync",
    ]
    with _a_server(command, folder / "etcd.log") as process, httpx.Client(base_url=url, trust_env=False) as client:
        wait_until(lambda: _is_ready(client, "/health"), process, folder / "etcd.log")
        yield url


@contextmanager
def _an_api_server(
    tools: Path, folder: Path, authority: Authority, etcd: str, port: int, token: str
) -> Iterator[subprocess.Popen[bytes]]:
    certificate, key = authority.issue("kube-apiserver", "127.0.0.1")
    tokens = folder / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text(f"{token},check,check,system:masters\n")
    command = [
        str(tools / "bin/kube-apiserver"),
        f"--etcd-servers={etcd}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--cert-dir={folder}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
        f"--service-cluster-ip-range={_SERVICE_NETWORK}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={certificate}",
        f"--service-account-signing-key-file={key}",
        # An endpoint on loopback is not valid, and nothing looks for it.
        "--endpoint-reconciler-type=none",
    ]
    with _a_server(command, folder / "kube-apiserver.log") as process:
        yield process


@contextmanager
def _a_server(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, and with this process."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*parent_death_signal.prefix(signal.SIGKILL), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIME)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a condition that a server brings about.

    Raises:
        AssertionError: the server has ended, or the condition is not true in time; with the last line of the log.
    """
    deadline = time.monotonic() + _READY_TIME
    while not condition():
        assert process.poll() is None, f"it ended with {process.returncode}: {last_line(log)}"
        assert time.monotonic() < deadline, f"it was not ready within {_READY_TIME:.0f} s: {last_line(log)}"
        time.sleep(_POLL)


def _is_ready(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).is_success
    except httpx.TransportError:
        return False


def _kubeconfig(url: str, authority: Path, token: str) -> dict[str, object]:
    """The configuration of a client, in the form that kubectl and helm read."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "check",
        "contexts": [{"name": "check", "context": {"cluster": "check", "user": "check"}}],
        "clusters": [{"name": "check", "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": "check", "user": {"token": token}}],
    }


def _define(api: Api, folder: Path) -> None:
    """Create the operators' definitions and wait until their objects can be created.

    Raises:
        AssertionError: they are not served in time.
    """
    definitions = [yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in DEFINITIONS]
    for each in definitions:
        api.create(each)
    deadline = time.monotonic() + _READY_TIME
    for each in definitions:
        spec = each["spec"]
        sample = {"apiVersion": f"{spec['group']}/{spec['versions'][0]['name']}", "kind": spec["names"]["kind"]}
        while not _is_served(api, sample):
            assert time.monotonic() < deadline, f"{sample['kind']} is not served"
            time.sleep(_POLL)


def _is_served(api: Api, sample: dict[str, str]) -> bool:
    try:
        api.get(api.path(sample, "default"))
    except Refused:
        return False
    return True
