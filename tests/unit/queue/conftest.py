"""A site in memory for each test of the queue."""

import pytest
from queue_site import World


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.store.close()
