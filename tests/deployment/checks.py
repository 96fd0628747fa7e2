"""What must hold after any run, whatever happened to it."""

from __future__ import annotations

from collections import Counter

import numpy as np

from tests.deployment.harness import Federation
from wardround.common.audit.verify import verify_log


def assert_sound(made: Federation, rounds: int | None = None) -> None:
    """Rounds once each, both ends' audit logs whole, every update counted once."""
    rows = made.rounds()
    numbers = [row["round"] for row in rows]
    assert numbers == list(range(1, len(numbers) + 1)), f"rounds {numbers}"
    assert rounds is None or len(numbers) == rounds, f"{len(numbers)} of {rounds} rounds"
    for row in rows:
        counted = Counter(row["accepted"])
        assert set(counted.values()) <= {1}, f"an update was counted twice: {row}"
        assert len(counted) >= made.min_clients, f"below the smallest cohort: {row}"
    made.stop_clients()  # a log that is still written to can't be held against its heads
    for party in ("server", *made.names):
        path = made.audit_path(party)
        if path.exists():
            problems = verify_log(path, path.with_name("audit.heads"))
            assert not problems, f"{party}: {problems}"


def assert_same_model(one: Federation, other: Federation, secure: bool = False) -> None:
    """Equal bytes; with secure aggregation equal to quantisation."""
    if not secure:
        assert one.model_digest() == other.model_digest()
        return
    left, right = one.model(), other.model()
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_allclose(value, right[name], atol=1e-5)
