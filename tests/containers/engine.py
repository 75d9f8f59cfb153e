"""A container engine of its own: dockerd in a network namespace that has its own loopback and no way out."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.repository.files import ROOT

PACKAGES = {"dockerd": "docker.io", "containerd": "containerd", "iptables": "iptables", "mmdebstrap": "mmdebstrap"}
"""By program, the Debian package that has it."""

_ANSWER_TIME = 60.0  # seconds until a new engine answers
_STOP_TIME = 120.0  # seconds for its containers to end

# Without a bridge and on the host's network: for the package registries, and for nothing that runs afterwards.
_FOR_BUILDING = ("--bridge=none", "--iptables=false", "--ip6tables=false")


class NotPossible(Exception):
    """This machine cannot run the check; the text says what is missing."""


def require_root() -> None:
    """Raises:
    NotPossible: this process may not create network namespaces.
    """
    if os.geteuid() != 0:
        raise NotPossible("it needs root, for a container engine in a network namespace of its own: run it with sudo")
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False).returncode:
        raise NotPossible("it needs the right to create network namespaces (CAP_SYS_ADMIN), which root lacks here")


def install_engine(log: Path) -> None:
    """Install the missing programs with apt-get.

    Raises:
        NotPossible: one is missing and there is no apt-get, or it fails.
    """
    missing = sorted({package for program, package in PACKAGES.items() if shutil.which(program) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise NotPossible(f"it needs {', '.join(missing)}: install them, there is no apt-get to do so")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        with log.open("ab") as output:
            done = subprocess.run(
                ["apt-get", "-q", *words], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )
        if done.returncode:
            raise NotPossible(f"it needs {', '.join(missing)}: `apt-get {words[0]}` failed, see {log}")


def compose_plugin(folder: Path) -> None:
    """Put Docker Compose v2 where the client looks for it: the installed one, or one that is built once.

    Raises:
        NotPossible: there is none and it cannot be built.
    """
    # Only a plugin that is installed for all users counts: the engine's client has a configuration of its own.
    environment = os.environ | {"DOCKER_CONFIG": str(folder)}
    known = subprocess.run(["docker", "compose", "version"], capture_output=True, env=environment, check=False)
    if known.returncode == 0:
        return
    built = subprocess.run(
        ["sh", ROOT / "deploy/tools/install.sh", "compose"], stdout=subprocess.PIPE, text=True, check=False
    )
    if built.returncode:
        raise NotPossible("it needs Docker Compose v2: install the plugin, or Go, with which it is built")
    plugins = folder / "cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    (plugins / "docker-compose").symlink_to(built.stdout.strip())


class Engine:
    """The engine with everything it stores below ``folder``; its containers are in the network namespace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "DOCKER_HOST": f"unix://{folder}/docker.sock",
            "DOCKER_CONFIG": str(folder / "config"),
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        }
        self.environment.pop("DOCKER_CONTEXT", None)
        self._namespace = folder / "net"

    @contextmanager
    def building(self) -> Iterator[None]:
        """The engine on the host's network, for steps that install packages."""
        with self._running((), _FOR_BUILDING):
            yield

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """The engine in a namespace with nothing but its own loopback and bridges."""
        self._namespace.touch()
        subprocess.run(["unshare", f"--net={self._namespace}", "ip", "link", "set", "lo", "up"], check=True)
        try:
            with self._running(self.inside(), ()):
                yield
        finally:
            subprocess.run(["umount", self._namespace], check=False)

    def inside(self) -> list[str]:
        """The words before a command that runs in the namespace, where the published ports are."""
        return ["nsenter", f"--net={self._namespace}", "--"]

    def docker(
        self, *words: str | Path, timeout: float = 300.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run the client.

        Raises:
            subprocess.CalledProcessError: it fails, unless ``check`` is false; its output is printed.
        """
        return run(["docker", *words], self.environment, timeout=timeout, check=check)

    @contextmanager
    def _running(self, before: Sequence[str], options: Sequence[str]) -> Iterator[None]:
        # Where root lacks CAP_SYS_RESOURCE, neither a better OOM score nor more files than our own can be had.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        folder = self.folder
        command: list[str | Path] = [*before, "dockerd", "--host", self.environment["DOCKER_HOST"], *options]
        command += ["--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "dockerd.pid"]
        command += ["--oom-score-adjust", "0", "--default-ulimit", f"nofile={files}:{files}"]
        with (self.folder / "dockerd.log").open("ab") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            self._wait_until_it_answers(server)
            yield
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(_STOP_TIME)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def _wait_until_it_answers(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _ANSWER_TIME
        while self.docker("version", timeout=30, check=False).returncode:
            if server.poll() is not None or time.monotonic() > deadline:
                lines = (self.folder / "dockerd.log").read_text("utf-8", "replace").splitlines()
                raise NotPossible(f"the container engine does not start: {' / '.join(lines[-3:])}")
            time.sleep(0.5)

    def remove(self) -> list[str]:
        """Delete the folder; returns what is left: mounts and processes that still use it."""
        for mount in reversed(self._mounts()):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        left = [*self._mounts(), *self._processes()]
        return [*left, *([str(self.folder)] if self.folder.exists() else [])]

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mounts").read_text("utf-8").splitlines()
        return [target for line in lines if (target := line.split(" ")[1]).startswith(f"{self.folder}/")]

    def _processes(self) -> list[str]:
        """The command lines that name the folder, as those of the engine, its shims and proxies do."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if str(self.folder) in words and int(process.name) not in (os.getpid(), os.getppid()):
                found.append(words.strip())
        return found


def run(
    command: Sequence[str | Path], environment: dict[str, str], *, timeout: float, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a program with captured output.

    Raises:
        subprocess.CalledProcessError: it fails, unless ``check`` is false; its output is printed.
        subprocess.TimeoutExpired: it takes longer than ``timeout`` seconds.
    """
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
        done.check_returncode()
    return done
