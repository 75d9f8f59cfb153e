"""The chart as helm installs it into a namespace, whose Job `setup` is ended by the check: no kubelet runs it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import yaml

from sluice_launcher import parent_death_signal
from tests.deploy.chart import CHART
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.objects import Document, job_status, pod_of
from tests.programs import program

NAME = "sluice"
_COMMAND_TIME = 120  # seconds until helm gives up
_POLL = 0.05  # seconds
_POD_SECURITY = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


class HelmFailed(Exception):
    """A command of helm fails; the text is what it says."""


class Release:
    """A release of the chart in a namespace of its own, with the strictest rules for pods that Kubernetes has."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.api, self.namespace = cluster.api, namespace
        self._cluster = cluster
        metadata = {"name": namespace, "labels": _POD_SECURITY}
        self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        # Every namespace has it from a controller, and no pod is admitted without its service account.
        self.api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}, namespace)

    def helm(self, *words: str | Path) -> str:
        """The output of a command of helm that has no hooks.

        Raises:
            HelmFailed: it fails.
        """
        with self._start(*words) as process:
            return self._result(process)

    def act(self, *words: str | Path, outcome: str = "Complete") -> list[Document]:
        """Run a command of helm whose Job `setup` ends as `Complete` or `Failed`; returns the Deployments until then.

        Raises:
            HelmFailed: it fails.
            AssertionError: it ends without a Job, or the Job has no topics.
            Refused: the pod of the Job, or its end, is not accepted.
        """
        with self._start(*words) as process:
            deployments = self._end_setup(process, outcome)
            self._result(process)
        assert deployments is not None, "there was no Job"
        return deployments

    def rendered(self, values: Sequence[str | Path]) -> list[Document]:
        """What helm would send to the server, with hooks; raises HelmFailed like :meth:`helm`."""
        return _parse(self.helm("template", NAME, CHART, *values, "--kube-version", self._cluster.version))

    def documents(self, revision: int = 0) -> list[Document]:
        """What helm has sent to the server for a revision, by default for the newest; hooks are not part of it."""
        words = ["--revision", str(revision)] if revision else []
        return _parse(self.helm("get", "manifest", NAME, *words))

    def deployments(self) -> list[Document]:
        """The Deployments that are stored."""
        found: list[Document] = self.api.get(f"/apis/apps/v1/namespaces/{self.namespace}/deployments")["items"]
        return found

    def admit_pod(self, workload: Document) -> None:
        """Let the server decide on the pod of a Deployment or Job, as its controller would; nothing is stored.

        Raises:
            Refused: the server does not admit it.
        """
        self.api.create(pod_of(workload), self.namespace, dryRun="All")

    def _start(self, *words: str | Path) -> AbstractContextManager[subprocess.Popen[str]]:
        home, helm = str(self._cluster.folder), str(self._cluster.tools / "bin/helm")
        environment = {"PATH": "/usr/bin:/bin", "HOME": home, "KUBECONFIG": str(self._cluster.kubeconfig)}
        command = [helm, *map(str, words), "--namespace", self.namespace]
        return program([*parent_death_signal.prefix(signal.SIGKILL), *command], environment)

    @staticmethod
    def _result(process: subprocess.Popen[str]) -> str:
        output, errors = process.communicate(timeout=_COMMAND_TIME)
        if process.returncode:
            # Before its error it names the chart's symbolic links.
            raise HelmFailed(errors[errors.find("Error: ") :].strip())
        return output

    def _end_setup(self, process: subprocess.Popen[str], outcome: str) -> list[Document] | None:
        """Wait for the Job and end it; None: helm has ended before."""
        jobs = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        deadline = time.monotonic() + _COMMAND_TIME
        while process.poll() is None and time.monotonic() < deadline:
            for job in self.api.get(jobs)["items"]:
                if not job["status"].get("conditions"):
                    return self._end_job({"apiVersion": "batch/v1", "kind": "Job", **job}, outcome)
            time.sleep(_POLL)
        return None

    def _end_job(self, job: Document, outcome: str) -> list[Document]:
        self.admit_pod(job)
        topics = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{NAME}-topics"}}
        assert "topics.yml" in self.api.stored(topics, self.namespace)["data"]
        deployments = self.deployments()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.api.set_status(job, self.namespace, job_status(outcome, now))
        return deployments


def _parse(text: str) -> list[Document]:
    """The documents of a YAML stream, without empty ones."""
    return [each for each in yaml.safe_load_all(text) if each]
