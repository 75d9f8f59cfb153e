"""Jars: a pinned one is fetched once, and a file with another hash is not used."""

import hashlib
import os
from pathlib import Path

import pytest

from sluice.runtime.errors import SluiceError
from sluice.runtime.paths import deploy_dir
from sluice_launcher.kafka_jars import Jar, fetch_jars, jar_directory, read_jar_list

CONTENT = b"the very bytes"


class Repository:
    """A Maven repository with the same content for every jar, which remembers the requests."""

    def __init__(self) -> None:
        self.content: bytes | Exception = CONTENT
        self.asked: list[str] = []

    def __call__(self, jar: Jar, directory: Path) -> Path:
        self.asked.append(jar.coordinate)
        if isinstance(self.content, Exception):
            raise self.content
        (path := directory / jar.filename).write_bytes(self.content)
        return path


@pytest.fixture
def repository() -> Repository:
    return Repository()


def a_jar(artifact: str = "words") -> Jar:
    return Jar("org.example", artifact, "1.0", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def silent(text: str) -> None:
    pass


def test_a_missing_jar_is_fetched(repository, tmp_path):
    fetch_jars([a_jar("one"), a_jar("two")], tmp_path / "jars", repository, silent)

    assert sorted(path.name for path in (tmp_path / "jars").iterdir()) == ["one-1.0.jar", "two-1.0.jar"]


def test_an_existing_jar_is_not_fetched_again(repository, tmp_path):
    fetch_jars([a_jar()], tmp_path / "jars", repository, silent)

    fetch_jars([a_jar()], tmp_path / "jars", repository, silent)

    assert len(repository.asked) == 1


def test_a_truncated_jar_is_fetched_again(repository, tmp_path):
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / a_jar().filename).write_bytes(CONTENT[:3])

    fetch_jars([a_jar()], tmp_path / "jars", repository, silent)

    assert (tmp_path / "jars" / a_jar().filename).read_bytes() == CONTENT


def test_a_wrong_hash_names_the_file_with_both_hashes(repository, tmp_path):
    repository.content = b"something else"

    with pytest.raises(SluiceError) as refused:
        fetch_jars([a_jar()], tmp_path / "jars", repository, silent)

    got = hashlib.sha256(b"something else").hexdigest()
    assert all(word in str(refused.value) for word in ("words-1.0.jar", a_jar().sha256, got))


def test_a_file_with_a_wrong_hash_is_not_kept(repository, tmp_path):
    repository.content = b"something else"

    with pytest.raises(SluiceError):
        fetch_jars([a_jar()], tmp_path / "jars", repository, silent)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_failed_download_names_the_remedies(repository, tmp_path):
    repository.content = ConnectionError("no route to host")

    with pytest.raises(SluiceError, match=r"no route to host.*SLUICE_MAVEN_MIRROR.*SLUICE_KAFKA_BOOTSTRAP_SERVERS"):
        fetch_jars([a_jar()], tmp_path / "jars", repository, silent)


def test_a_failed_download_is_retried(repository, tmp_path):
    stumbled = iter([ConnectionError("reset"), CONTENT])

    def download(jar, directory):
        repository.content = next(stumbled)
        return repository(jar, directory)

    fetch_jars([a_jar()], tmp_path / "jars", download, silent)

    assert (tmp_path / "jars" / a_jar().filename).read_bytes() == CONTENT


def test_two_lists_never_share_a_directory(tmp_path):
    other = Jar("org.example", "words", "1.0", len(CONTENT), "0" * 64)

    assert jar_directory(tmp_path, [a_jar()]) != jar_directory(tmp_path, [other])


def test_the_list_of_the_repository_pins_kafka_with_every_hash():
    jars = read_jar_list(deploy_dir() / "kafka/kafka.jars")

    assert len(jars) == 46
    assert {jar.version for jar in jars if jar.group == "org.apache.kafka"} == {"4.3.1"}
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in jars)


def test_finding_19_a_jar_of_the_right_size_with_other_bytes_is_fetched_again(repository, tmp_path):
    jars = tmp_path / "jars"
    jars.mkdir()
    (jars / a_jar().filename).write_bytes(bytes(len(CONTENT)))

    fetch_jars([a_jar()], jars, repository, silent)

    assert (jars / a_jar().filename).read_bytes() == CONTENT


@pytest.mark.parametrize("writable", ["jars", "."])
def test_finding_19_a_cache_that_others_can_write_is_refused(repository, tmp_path, writable):
    (tmp_path / "jars").mkdir()
    (tmp_path / writable).chmod(0o777)

    with pytest.raises(SluiceError, match=r"writable by others: .* SLUICE_CACHE_DIR"):
        fetch_jars([a_jar()], tmp_path / "jars", repository, silent)

    assert repository.asked == []


def test_finding_19_a_cache_of_another_user_is_refused(repository, tmp_path, monkeypatch):
    (tmp_path / "jars").mkdir()
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    if os.getuid() == 0:
        os.chown(tmp_path, 4712, -1)

    with pytest.raises(SluiceError, match="belongs to another user"):
        fetch_jars([a_jar()], tmp_path / "jars", repository, silent)
