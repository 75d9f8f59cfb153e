"""The image and docker-compose.yml on a container engine of their own: ``python -m tests.containers``.

The last line is one JSON object. Exit code 0: everything passed, 1: something failed, 2: it cannot run here.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.containers.checks import run_checks, write_passwords
from tests.containers.engine import Engine, NotPossible, compose_plugin, install_engine, require_root
from tests.containers.images import build_project, make_stand_ins
from tests.progress import progress_beside as progress
from tests.progress import seconds_since_start


def main() -> int:
    """Run everything; print the results."""
    parser = argparse.ArgumentParser(prog="python -m tests.containers", description=__doc__)
    parser.add_argument("--work", type=Path, help="folder for images and data, on a disk with 6 GB (default: /var/tmp)")
    options = parser.parse_args()
    # A time limit of the caller ends the engine and its network namespace too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        results = check(options.work)
    except NotPossible as fault:
        print(f"the containers cannot be checked here: {fault}", file=sys.stderr)
        print(json.dumps({"possible": False, "reason": str(fault)}))
        return 2
    failed = [name for name, result in results.items() if not result["passed"]]
    seconds = round(seconds_since_start())
    print(json.dumps({"passed": len(results) - len(failed), "failed": failed, "seconds": seconds, "checks": results}))
    return 1 if failed else 0


def check(work: Path | None) -> dict[str, dict[str, Any]]:
    """The results by name. Whatever was started is stopped and deleted, also after an error."""
    require_root()
    os.environ.pop("COMPOSE_FILE", None)
    parent = Path(tempfile.mkdtemp(prefix="sluice-containers-", dir=work or "/var/tmp"))
    engine = Engine(parent / "engine")
    engine.folder.mkdir()
    (engine.folder / "config").mkdir()
    try:
        install_engine(parent / "apt.log")
        compose_plugin(engine.folder / "config")
        progress("the engine and Compose are installed")
        write_passwords(engine)
        with engine.building():
            make_stand_ins(engine)
            progress("the images of PostgreSQL, Redis and Kafka are made")
            build_project(engine)
            progress("the image is built")
        with engine.isolated():
            results = run_checks(engine, progress)
    finally:
        left = engine.remove()
        progress(f"removed; left: {left or 'nothing'}")
    results["removes_everything"] = {"passed": not left, "left": left}
    if all(result["passed"] for result in results.values()):
        for file in parent.iterdir():
            file.unlink()
        parent.rmdir()
    else:
        progress(f"the logs are in {parent}")
    return results


if __name__ == "__main__":
    sys.exit(main())
