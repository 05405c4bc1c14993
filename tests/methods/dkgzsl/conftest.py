import pytest
from toys import Toy, toy_set


@pytest.fixture
def toy() -> Toy:
    return toy_set()
