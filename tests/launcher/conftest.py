"""What several of these tests use."""

import os

import pytest


@pytest.fixture
def gateway_that(tmp_path, monkeypatch):
    """Puts a gateway of one line before the real one, for every process that is started from here."""

    def does(program):
        package = tmp_path / "stand-in" / "gateway"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(program)
        monkeypatch.setenv("PYTHONPATH", str(package.parent), prepend=os.pathsep)

    return does
