from collections.abc import Iterator

import pytest

from tests.helpers.one_at_a_time import one_at_a_time


@pytest.fixture(scope="module", autouse=True)
def one_file_at_a_time() -> Iterator[None]:
    """flatland-rl's client knows one port of Redis only."""
    with one_at_a_time("redis"):
        yield
