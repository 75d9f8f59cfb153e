"""Errors of files and of PostgreSQL that a command does not handle itself, as one sentence for the operator."""

from __future__ import annotations

import asyncpg

from sluice.store.db import DATABASE_ERRORS

_SCHEMA_ERRORS = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedObjectError,
    asyncpg.InvalidSchemaNameError,
)


def sentence_of(error: Exception) -> str | None:
    """What the operator reads, with the remedy where there is one; None for an error that only a bug raises."""
    reason = " ".join(str(error).split()) or type(error).__name__
    match error:
        case OSError(filename=name) if name is not None:
            return f"{name}: {error.strerror}"
        case OSError():
            return error.strerror or reason
        case _ if isinstance(error, _SCHEMA_ERRORS):
            return f"the database does not have the schema of this version ({reason}): run `sluice migrate`"
        case asyncpg.InsufficientPrivilegeError():
            return f"the login lacks a privilege ({reason}): `sluice migrate` grants what each login needs"
        case _ if isinstance(error, DATABASE_ERRORS):
            return f"PostgreSQL: {reason}"
    return None
