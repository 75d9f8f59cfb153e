"""The workspace: every member is known to the tools, every role to the launcher, every hook is local."""

import importlib.util

from sluice_launcher.roles import ALL_ROLES, ROLES, port_setting
from tests.repository.files import ROOT, read_toml, read_yaml

MODULES = {path.parent.name for path in ROOT.glob("services/*/src/*/__init__.py")}
TOOLS = {path.parent.name for path in ROOT.glob("tools/*/src/*/__init__.py")}


def test_every_service_is_a_role_of_the_launcher():
    assert {role.module for role in ROLES} == MODULES


def test_every_role_can_be_run_as_a_module():
    assert [role.module for role in ROLES if importlib.util.find_spec(f"{role.module}.__main__") is None] == []


def test_no_two_roles_share_a_port():
    assert len({role.port for role in ALL_ROLES}) == len(ALL_ROLES)


def test_the_import_linter_knows_every_package():
    linter = read_toml("pyproject.toml")["tool"]["importlinter"]

    assert set(linter["root_packages"]) == MODULES | {"sluice"} | TOOLS
    assert any(
        set(each.get("modules", ())) == MODULES for each in linter["contracts"] if each["type"] == "independence"
    )
    assert any(
        set(each["forbidden_modules"]) == MODULES | TOOLS and each["source_modules"] == ["sluice"]
        for each in linter["contracts"]
        if each["type"] == "forbidden"
    )


def test_mypy_is_strict_and_sees_every_source_folder():
    mypy = read_toml("pyproject.toml")["tool"]["mypy"]

    sources = {
        str(path.relative_to(ROOT))
        for pattern in ("libs/*/src", "services/*/src", "tools/*/src")
        for path in ROOT.glob(pattern)
    }
    assert mypy["strict"] is True
    assert set(mypy["mypy_path"]) == sources


def test_the_hooks_download_nothing():
    hooks = read_yaml(".pre-commit-config.yaml")["repos"]

    assert [repository["repo"] for repository in hooks] == ["local"]
    assert {hook["language"] for hook in hooks[0]["hooks"]} == {"system"}


def test_the_operators_page_names_every_port_setting():
    page = (ROOT / "docs/operations.md").read_text()

    assert [role.name for role in ALL_ROLES if port_setting(role.name) not in page] == []
    assert [str(role.port) for role in ALL_ROLES if f"`{role.port}`" not in page] == []
