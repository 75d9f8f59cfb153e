"""Services in process, with a real database and a fake bus."""

import pytest

from tests.services.command_line import command  # noqa: F401  (a fixture)
from tests.services.fakes import FakePublisher
from tests.services.test_gateway import gateway  # noqa: F401  (a fixture)
from tests.store.conftest import (  # noqa: F401  (fixtures)
    make_bare_database,
    pool,
    role_pools,
    store,
    store_database,
    store_pool,
)


@pytest.fixture
def bus():
    return FakePublisher()
