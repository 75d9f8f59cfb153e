"""Fixtures of these tests."""

import os

import pytest


@pytest.fixture
def gateway_that(tmp_path, monkeypatch):
    """Replaces the gateway by a program of one line, for every process that the test starts."""

    def does(program):
        package = tmp_path / "stand-in" / "gateway"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(program)
        monkeypatch.setenv("PYTHONPATH", str(package.parent), prepend=os.pathsep)

    return does
