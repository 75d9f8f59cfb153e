"""A gateway in process, as the tests of the services use it."""

from tests.services.conftest import bus  # noqa: F401  (fixtures)
from tests.store.conftest import pool, role_pools, store, store_database, store_pool  # noqa: F401  (fixtures)
