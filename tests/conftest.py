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

# of two workers one is busy with those; the other begins with what takes long, not ends with it
LONG = (
    "campaign",
    "test_kill_resume.py",
    "test_kill_unmask.py",
    "test_kill_unmask_points.py",
    "test_text.py",
    "test_imaging.py",
    "test_extras.py",
    "test_private.py",
    "test_contract.py",
    "secagg",
    "process",
)

# a busy machine is no failure: nothing is timed
hypothesis.settings.register_profile(
    "untimed",
    deadline=None,
    max_examples=50,  # where a test doesn't say how many
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """What tests share, for a process that runs some (not for one that hands them out)."""
    hands_out = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if not hands_out:
        config.pluginmanager.import_plugin("tests.federate")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    late = []
    for item in items:
        parts = set(item.path.relative_to(TESTS).parts)
        late.append(0 if parts & set(ALONE) else 1 if parts & set(LONG) else 2)
        if not late[-1]:
            item.add_marker(pytest.mark.xdist_group("alone"))
    if hasattr(config, "workerinput"):
        order = sorted(range(len(items)), key=late.__getitem__)
        items[:] = [items[number] for number in order]


def pytest_collection(session: pytest.Session) -> None:
    """What is made from here to the end of the collection stays, too: no looking for garbage."""
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Torch and thousands of tests are here to stay: every collection of garbage would look at
    them again, and Flower's bulyan collects once for each hospital and round."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay together: what its fixtures make is made once."""
    from tests.spread import ByFile

    return ByFile(config, log)
