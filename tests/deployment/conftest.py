"""Fixtures of the tests with real processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import Federation, Zygote, federation


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
