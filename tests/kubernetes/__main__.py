"""The Helm chart on a real API server of Kubernetes: ``python -m tests.kubernetes``.

The last line is one JSON object. Exit code 0: everything passed, or the server cannot be built here; 1: it did not.
"""

import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

from tests.check_results import result_of_fault
from tests.kubernetes.checks import run_checks
from tests.kubernetes.cluster import NotPossible, a_cluster, install_tools
from tests.progress import progress_beside as progress
from tests.progress import seconds_since_start

LIMIT = 900  # seconds for everything but the build


class OutOfTime(BaseException):
    """The time limit is over; no check may catch it."""


def main() -> int:
    """Run everything; print the results."""
    # A time limit of the caller ends the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGALRM, _end)
    try:
        tools = install_tools()
    except NotPossible as fault:
        print(f"SKIPPED, the chart cannot be installed here: {fault}", file=sys.stderr)
        print(json.dumps({"possible": False, "reason": str(fault)}))
        return 0
    progress("helm, etcd and kube-apiserver are built")
    signal.alarm(LIMIT)
    folder = Path(tempfile.mkdtemp(prefix="sluice-kubernetes-"))
    report = _check(tools, folder)
    failed = [name for name, result in report["checks"].items() if not result["passed"]]
    if failed:
        progress(f"the logs are in {folder}")
    else:
        shutil.rmtree(folder)
    counted = {"passed": len(report["checks"]) - len(failed), "failed": failed}
    print(json.dumps({**counted, "seconds": round(seconds_since_start()), **report}))
    return 1 if failed else 0


def _check(tools: Path, folder: Path) -> dict[str, Any]:
    """The version of the server and the result of each check. No server is left, also after an error."""
    version: str | None = None
    results: dict[str, dict[str, Any]] = {}
    try:
        with a_cluster(tools, folder) as cluster:
            version = cluster.version
            progress(f"an API server of Kubernetes {version} is ready")
            run_checks(cluster, results, progress)
    except (OutOfTime, AssertionError) as fault:
        results["the_servers_run"] = result_of_fault(fault)
    return {"kubernetes": version, "checks": results}


def _end(signal_number: int, frame: FrameType | None) -> None:
    raise OutOfTime(f"not finished within {LIMIT} s")


if __name__ == "__main__":
    sys.exit(main())
