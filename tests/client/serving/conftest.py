"""One model for all: made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.serving.asgi import Client
from tests.client.serving.made import COHORT, Made, asked, made
from wardround.client.serving.app import Served


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("serving"), more=COHORT)


@pytest.fixture(scope="session")
def served(model: Made) -> Iterator[tuple[Client, Served]]:
    with asked(model.export) as found:
        yield found


@pytest.fixture
def client(served: tuple[Client, Served]) -> Client:
    return served[0]
