"""Loads the plugins that every test may use; a folder's own fixtures are in its own conftest."""

pytest_plugins = ["tests.engine"]
