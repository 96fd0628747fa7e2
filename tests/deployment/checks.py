"""What must hold after any run, whatever happened to it."""

from __future__ import annotations

from collections import Counter

import numpy as np

from tests.deployment.harness import Federation
from wardround.common.audit.compare import compare_told
from wardround.common.audit.log import AuditLog
from wardround.common.audit.verify import check_log, verify_log
from wardround.common.trust.credentials import read_identity


def assert_sound(made: Federation, rounds: int | None = None, honest: bool = True) -> None:
    """Rounds once each, both ends' audit logs whole, every update counted once; and, of a server
    that doesn't lie, all hospitals were told the same."""
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
            started_again(made, party)
            problems = verify_log(path, path.with_name("audit.heads"))
            assert not problems, f"{party}: {problems}"
    assert not honest or not told_otherwise(made)


def started_again(made: Federation, party: str) -> None:
    """Open a log as the next start does: a kill between a head and the line that tells of it left
    that line to be written."""
    server = made.folder / "provision" / "server"
    folder = server if party == "server" else made.kit(party)
    identity = read_identity(folder / "identity.key", "")
    AuditLog.open(made.audit_path(party), party, identity).close()


def told_otherwise(made: Federation) -> list[str]:
    """What `wardround audit compare` says of the hospitals' logs: differences, the first first."""
    paths = [path for name in made.names if (path := made.audit_path(name)).exists()]
    return compare_told([check_log(path) for path in paths]).differences


def assert_same_model(one: Federation, other: Federation, secure: bool = False) -> None:
    """Equal bytes; with secure aggregation equal to quantisation."""
    if not secure:
        assert one.model_digest() == other.model_digest()
        return
    left, right = one.model(), other.model()
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_allclose(value, right[name], atol=1e-5)
