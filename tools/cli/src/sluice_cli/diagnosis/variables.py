"""The variables of an installation: misspelt names, and values that no role accepts."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from typing import Any

from pydantic_settings import BaseSettings

from sluice.runtime.settings import find_faults
from sluice_cli.diagnosis.finding import Finding, fail, ok
from sluice_cli.diagnosis.installation import Installation
from sluice_cli.variables import other_variables

ROLE_MODULES = ("gateway", "router", "email_worker", "sms_worker", "push_worker", "health", "event_worker")
_PREFIX = "SLUICE_"
_CHECK = "settings"


async def check(installation: Installation) -> list[Finding]:
    """Each name that is no setting, with the nearest one, and each value that is not valid."""
    kinds = settings_classes()
    known = {f"{_PREFIX}{name.upper()}" for kind in kinds for name in kind.model_fields} | other_variables()
    places = _places(installation)
    faults = [*_unknown(places, known), *_invalid(kinds)]
    return faults or [ok(_CHECK, f"{len(places)} variables are set, each of them a setting with a valid value")]


def settings_classes() -> list[type[BaseSettings]]:
    """The settings classes of the roles that are installed here, and of the common library."""
    for module in ROLE_MODULES:
        try:
            importlib.import_module(f"{module}.app")
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] != module:
                raise
    return [kind for kind in _subclasses(BaseSettings) if kind.model_config.get("env_prefix") == _PREFIX]


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _places(installation: Installation) -> dict[str, str]:
    """Where each variable is set: for a running role, or for this command."""
    found = {name: f"of {role}" for role, names in installation.role_environments.items() for name in names}
    return found | dict.fromkeys(installation.shell, "of this command")


def _unknown(places: dict[str, str], known: set[str]) -> Iterator[Finding]:
    for name, place in sorted(places.items()):
        if name.upper() in known:
            continue
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.7)
        advice = f"rename it to {near[0]}" if near else "remove it; docs/configuration.md lists every setting"
        yield fail(_CHECK, f"{name} in the environment {place} is no setting and has no effect", advice)


def _invalid(kinds: list[type[BaseSettings]]) -> Iterator[Finding]:
    faults: dict[str, str] = {}
    for kind in kinds:
        faults |= find_faults(kind)
    for name, fault in sorted(faults.items()):
        yield fail(_CHECK, f"{name}: {fault}", "correct it; docs/configuration.md describes every setting")
