"""How the tests are run: in which order, on which of two workers, with which plugins.

Nothing here imports torch: of ``pytest -n 2`` the process that only hands out tests reads it too.
"""

from __future__ import annotations

# the suite's process is a server's and a hospital's at once
from wardround.common.transport.only_tls13 import hold_to_tls13  # isort: skip

hold_to_tls13()

import gc
from pathlib import Path
from typing import Any

import hypothesis
import pytest

TESTS = Path(__file__).parent

# these run processes of their own, or are held to deadlines: one after the other, also where the
# others are spread over two workers (pytest -n 2 --dist loadgroup)
ALONE = (
    "deployment",
    "transport",
    "test_ray.py",
    "test_processes.py",
    "test_distributed.py",
)

# a busy machine is no failure: nothing is timed
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """What tests share, for a process that runs some (not for one that hands them out)."""
    hands_out = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if not hands_out:
        config.pluginmanager.import_plugin("tests.federate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if set(ALONE) & set(item.path.relative_to(TESTS).parts):
            item.add_marker(pytest.mark.xdist_group("alone"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Torch and thousands of tests are here to stay: every collection of garbage would look at
    them again, and Flower's bulyan collects once for each hospital and round."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay together: what its fixtures make is made once."""
    from tests.spread import ByFile

    return ByFile(config, log)
