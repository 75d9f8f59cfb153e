"""Prints docs/configuration.md, made from the settings classes: `python -m tests.repository.configuration`."""

import ast
import importlib
import json
import pkgutil
import types
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sluice_cli.variables import OTHERS, port_variables
from sluice_launcher.roles import ROLES

INTRODUCTION = """\
# Configuration

Every setting is an environment variable. Durations are seconds, sizes are bytes; lists and objects are JSON.
A setting with a wrong value stops the start of its process, with a message that names it.

This page is generated (`python -m tests.repository.configuration > docs/configuration.md`); a test compares it with the
code. [operations.md](operations.md) explains the settings of an installation and those for high load.
"""


def page() -> str:
    """The page as Markdown."""
    sections = [INTRODUCTION, "## Roles\n", *_role_tables()]
    for title, variables in _others().items():
        rows = [(f"`{name}`", default, text) for name, (default, text) in variables.items()]
        sections += [f"## {title}\n", _table(("variable", "default", "description"), rows)]
    return "\n".join(sections)


def _others() -> dict[str, dict[str, tuple[str, str]]]:
    """With the ports of the launcher in its own section, the first one."""
    launcher = next(iter(OTHERS))
    return {**OTHERS, launcher: {**OTHERS[launcher], **port_variables()}}


def settings_of(package: str) -> set[type[BaseModel]]:
    """The settings classes that the modules of a role's package load, also through ``run_worker``."""
    found: set[type[BaseModel]] = set()
    for module in _modules(package):
        for call in _calls(module):
            match call:
                case ast.Call(func=ast.Name(id="load"), args=[ast.Name(id=name), *_]):
                    found.add(getattr(module, name))
                case ast.Call(func=ast.Name(id="run_worker")):
                    found |= settings_of(module.run_worker.__module__)
    return found


def variables() -> dict[str, tuple[FieldInfo, set[str]]]:
    """Every setting of the roles: its field and the roles that read it."""
    found: dict[str, tuple[FieldInfo, set[str]]] = {}
    for role in ROLES:
        for kind in settings_of(role.module):
            for name, field in kind.model_fields.items():
                found.setdefault(f"SLUICE_{name.upper()}", (field, set()))[1].add(role.name)
    return found


def _modules(package: str) -> Iterator[types.ModuleType]:
    module = importlib.import_module(package)
    yield module
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if found.name != "__main__":
            yield from _modules(f"{package}.{found.name}")


def _calls(module: types.ModuleType) -> list[ast.Call]:
    if not module.__file__:
        return []
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _role_tables() -> Iterator[str]:
    """One table for each set of roles, the largest set first."""
    known = variables()
    order = [role.name for role in ROLES]
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, (_, readers) in known.items():
        groups[tuple(role for role in order if role in readers)].append(name)
    for roles in sorted(groups, key=lambda roles: (-len(roles), [order.index(role) for role in roles])):
        yield f"### {_title(roles)}\n"
        yield _table(
            ("variable", "type", "default", "description"), [_row(name, known[name][0]) for name in groups[roles]]
        )
        for name in groups[roles]:
            yield from _parts(name, known[name][0])


def _title(roles: Collection[str]) -> str:
    if len(roles) == len(ROLES):
        return "All roles"
    *first, last = roles
    return f"{', '.join(first)} and {last}" if first else last


def _row(name: str, field: FieldInfo) -> tuple[str, ...]:
    bounds = [
        f"{sign} {getattr(each, word):g}" for each in field.metadata for word, sign in _BOUNDS if hasattr(each, word)
    ]
    kind = " ".join([_kind(field.annotation), *bounds])
    return f"`{name}`", kind, _default(field.get_default(call_default_factory=True)), field.description or ""


_BOUNDS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))


def _kind(annotation: Any) -> str:
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    names = {str: "text", SecretStr: "text", int: "integer", float: "number", bool: "boolean", Path: "path"}
    if annotation in names:
        return names[annotation]
    return "object" if _is_object(annotation) else "list"


def _is_object(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if _is_object(type(value)):
        return "see below"
    return f"`{_text(value)}`"


def _text(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, frozenset | set):
        return json.dumps(sorted(_text(each) for each in value))
    if isinstance(value, tuple | list):
        return json.dumps([float(f"{each:g}") if each % 1 else int(each) for each in value])
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parts(name: str, field: FieldInfo) -> Iterator[str]:
    """The table of an object's fields, with their defaults."""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        yield f"Fields of `{name}`; those that are missing keep their defaults:\n"
        rows = [
            (f"`{each}`", f"`{_text(getattr(value, each))}`", part.description or "")
            for each, part in type(value).model_fields.items()
        ]
        yield _table(("field", "default", "description"), rows)


def _table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heading, tuple("---" for _ in heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
