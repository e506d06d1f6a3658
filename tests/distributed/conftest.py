from collections.abc import Iterator

import pytest

from tests.helpers.one_at_a_time import one_at_a_time


@pytest.fixture(scope="module", autouse=True)
def one_file_at_a_time() -> Iterator[None]:
    """What looks for a Ray on this machine would find that of another file."""
    with one_at_a_time("ray"):
        yield
