"""The errors of a PostgreSQL that is stopped, killed or starting."""

import asyncpg

from sluice.store.db import UNAVAILABLE_ERRORS

DATABASE_DOWN: tuple[type[Exception], ...] = (*UNAVAILABLE_ERRORS, asyncpg.PostgresError)
