"""Fixtures of the tests with real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deployment.harness import Federation, Zygote, federation
from tests.deployment.network import standing
from tests.deployment.network_words import SORTS


@pytest.fixture(scope="session", autouse=True)
def zygote() -> Iterator[None]:
    """Ends the forking process with the session."""
    yield
    if Zygote.shared is not None:
        Zygote.shared.close()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """A finished plain run that nothing disturbed."""
    with federation(tmp_path_factory.mktemp("undisturbed")) as made:
        made.start()
        made.finish()
    return made


@pytest.fixture(scope="session")
def undisturbed_secure(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """The same with secure aggregation."""
    with federation(tmp_path_factory.mktemp("undisturbed"), secure=True) as made:
        made.start()
        made.finish()
    return made


@pytest.fixture(scope="session")
def undisturbed_studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Models, by how names begin, of studies that were alone in an undisturbed network."""
    with standing(tmp_path_factory.mktemp("undisturbed")) as made:
        made.start()
        models = {}
        for name, sort in SORTS.items():
            id = made.submit(made.study(f"{name}-0", **sort))
            made.delivered(id)
            models[name] = made.model(id)
    return models
