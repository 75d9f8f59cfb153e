"""Kafka's jars: a pinned list, fetched once into a cache; a jar with another sha256 is not used."""

import hashlib
import os
import shutil
import ssl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sluice.runtime.errors import SluiceError
from sluice_launcher.progress import Progress

Download = Callable[["Jar", Path], Path]
"""Downloads a jar to somewhere below the directory and returns its path."""

PARALLEL_DOWNLOADS = 8
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned jar; ``size`` in bytes."""

    group: str
    artifact: str
    version: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        """Its name in the cache."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def coordinate(self) -> str:
        """Its Maven coordinate."""
        return f"{self.group}:{self.artifact}:{self.version}"


def read_jar_list(path: Path) -> list[Jar]:
    """Lines of `group:artifact:version size sha256`."""
    lines = (line.partition("#")[0].split() for line in path.read_text().splitlines())
    return [_jar(*words) for words in lines if words]


def fetch_jars(jars: Sequence[Jar], directory: Path, download: Download, progress: Progress) -> None:
    """Fetch the missing jars into the directory; several processes may do so concurrently.

    Every file is hashed at every start (45 MB, 0.1 s); one that is not the pinned one is fetched again.

    Raises:
        SluiceError: a jar cannot be fetched, or its sha256 is not the pinned one; or others may write to the cache.
    """
    for each in (directory.parent, directory):
        _refuse_foreign(each)
    missing = [jar for jar in jars if not _is_pinned(directory / jar.filename, jar)]
    if not missing:
        return
    directory.mkdir(parents=True, exist_ok=True)
    # On the same disk as the directory, so that the move into it is atomic.
    fetching = Path(tempfile.mkdtemp(prefix="fetching-", dir=directory.parent))
    try:
        _fetch_all(missing, directory, fetching, download, progress)
    finally:
        shutil.rmtree(fetching, ignore_errors=True)


def jar_directory(cache_dir: Path, jars: Sequence[Jar]) -> Path:
    """The cache directory of a list: two checkouts with different pins share no file."""
    fingerprint = hashlib.sha256("".join(jar.sha256 for jar in jars).encode()).hexdigest()[:12]
    return cache_dir / f"kafka-{fingerprint}"


def maven_download(jar: Jar, directory: Path, *, mirror: str | None = None) -> Path:
    """Download from Maven's central repository or a mirror of it."""
    try:
        from jgo.maven import MavenContext
    except ImportError as missing:
        raise SluiceError(
            "Kafka's jars are fetched by the package jgo, which is not installed: "
            "run `make setup`, or give a broker's address in SLUICE_KAFKA_BOOTSTRAP_SERVERS"
        ) from missing
    repositories = {"mirror": mirror.rstrip("/")} if mirror else None
    maven = MavenContext(repo_cache=directory, remote_repos=repositories, timeout=30)
    found: Path = maven.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    return found


def _jar(coordinate: str, size: str, sha256: str) -> Jar:
    group, artifact, version = coordinate.split(":")
    return Jar(group, artifact, version, int(size), sha256)


def _fetch_all(missing: Sequence[Jar], directory: Path, fetching: Path, download: Download, progress: Progress) -> None:
    megabytes = sum(jar.size for jar in missing) / 1e6
    progress(f"fetching Kafka: {len(missing)} jars, {megabytes:.0f} MB")
    with _system_certificates(), ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        tasks = {pool.submit(_fetch, jar, directory, fetching, download): jar for jar in missing}
        done = 0.0
        try:
            for count, task in enumerate(as_completed(tasks), start=1):
                task.result()
                done += tasks[task].size / 1e6
                if count % 8 == 0 or count == len(missing):
                    progress(f"fetching Kafka: {count} jars, {done:.0f} of {megabytes:.0f} MB")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _system_certificates() -> Iterator[None]:
    """jgo's HTTP client trusts its own list of certificates; a proxy's certificate is in the system's list."""
    paths = ssl.get_default_verify_paths()
    trusted = paths.cafile or paths.capath
    if trusted is None or os.environ.get("REQUESTS_CA_BUNDLE"):
        yield
        return
    os.environ["REQUESTS_CA_BUNDLE"] = trusted
    try:
        yield
    finally:
        del os.environ["REQUESTS_CA_BUNDLE"]


def _fetch(jar: Jar, directory: Path, fetching: Path, download: Download) -> None:
    fetched = _download_with_retries(jar, fetching, download)
    found = hashlib.sha256(fetched.read_bytes()).hexdigest()
    if found != jar.sha256:
        raise SluiceError(
            f"{jar.filename} is not the file that deploy/kafka/kafka.jars pins: "
            f"expected sha256 {jar.sha256}, got {found}; it was deleted"
        )
    os.replace(fetched, directory / jar.filename)


def _download_with_retries(jar: Jar, fetching: Path, download: Download) -> Path:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return download(jar, Path(tempfile.mkdtemp(dir=fetching)))
        except SluiceError:
            raise
        # Every error of a downloader (no route, a proxy's refusal, a broken response) has the same remedy.
        except Exception as fault:
            if attempt == ATTEMPTS:
                raise SluiceError(
                    f"Kafka's jar {jar.coordinate} could not be fetched ({_first_line(fault)}): "
                    "connect to the network, name a Maven mirror in SLUICE_MAVEN_MIRROR, "
                    "or give a broker's address in SLUICE_KAFKA_BOOTSTRAP_SERVERS"
                ) from fault
    raise AssertionError("unreachable")


def _first_line(fault: Exception) -> str:
    lines = str(fault).strip().splitlines()
    return lines[0][:200] if lines else type(fault).__name__


def _is_pinned(path: Path, jar: Jar) -> bool:
    try:
        return path.stat().st_size == jar.size and hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _refuse_foreign(directory: Path) -> None:
    """What another user can write may be another user's program by the time it starts.

    Raises:
        SluiceError: the directory belongs to another user, or others may write to it.
    """
    try:
        found = directory.stat()
    except FileNotFoundError:
        return
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o002:
        raise SluiceError(
            f"the cache {directory} belongs to another user or is writable by others: change that, "
            "or name another directory in SLUICE_CACHE_DIR"
        )
