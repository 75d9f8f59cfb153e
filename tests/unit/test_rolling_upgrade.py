"""`make rolling-upgrade` refuses a commit whose schema the other code cannot work on, before it builds anything."""

import subprocess

import pytest

from tests.rolling.code import MIGRATIONS, adds_migrations, require_same_migrations


class Checkout:
    """A repository with migrations."""

    def __init__(self, folder):
        self.folder = folder
        self.git("init", "--quiet")

    def git(self, *words):
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *words], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, **migrations):
        """Write these migrations; returns the commit."""
        for name, text in migrations.items():
            file = self.folder / MIGRATIONS / f"{name}.sql"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "Migrations")
        return self.git("rev-parse", "--short", "HEAD")


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_a_commit_with_fewer_migrations_is_accepted(checkout):
    first = checkout.commit(m0001="CREATE TABLE a ();")
    checkout.commit(m0002="CREATE TABLE b ();")

    require_same_migrations(checkout.folder, first)
    require_same_migrations(checkout.folder, "HEAD")
    assert [adds_migrations(checkout.folder, one) for one in (first, "HEAD")] == [True, False]


def test_a_commit_with_another_form_of_a_migration_is_refused_and_the_oldest_that_fits_is_named(checkout):
    first = checkout.commit(m0001="CREATE TABLE a ();")
    fits = checkout.commit(m0001="CREATE TABLE a (traceparent text);")
    checkout.commit(m0002="CREATE TABLE b ();")

    with pytest.raises(SystemExit, match=rf"^FROM={first}: {MIGRATIONS}/m0001\.sql is another one .*: name {fits}, "):
        require_same_migrations(checkout.folder, first)
    require_same_migrations(checkout.folder, fits)


def test_a_migration_that_is_not_committed_counts(checkout):
    checkout.commit(m0001="CREATE TABLE a ();")
    (checkout.folder / MIGRATIONS / "m0001.sql").write_text("CREATE TABLE c ();")

    with pytest.raises(SystemExit, match=r"m0001\.sql is another one"):
        require_same_migrations(checkout.folder, "HEAD")


def test_an_unknown_commit_is_refused(checkout):
    checkout.commit(m0001="")

    with pytest.raises(SystemExit, match=r"^FROM=nonsense: "):
        require_same_migrations(checkout.folder, "nonsense")
