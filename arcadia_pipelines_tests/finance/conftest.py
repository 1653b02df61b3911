"""A receiver that finance is, and the pilot's April to tell it of."""

from collections.abc import Callable, Iterator

import pytest
import stamina

from arcadia_pipelines_tests.finance.receiver import TOKEN, Receiver, receiving


@pytest.fixture(autouse=True)
def _without_waits() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3):
        yield


@pytest.fixture
def finance(in_environment: Callable[..., None]) -> Iterator[Receiver]:
    """Finance, which the environment names."""
    with receiving() as receiver:
        in_environment(ARCADIA_FINANCE_URL=receiver.url, ARCADIA_FINANCE_TOKEN=TOKEN)
        yield receiver
