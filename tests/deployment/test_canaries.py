"""Patients' values are planted in the data; nothing that is sent, logged or stored has them.

Everything either end writes is searched, with what it says on its log: answers, spools, states,
audit logs, checkpoints, reports. What is sent is written down as it leaves, before it is encrypted.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.deployment.checks import assert_sound
from tests.deployment.harness import federation

CANARIES = [73219.53125, -48611.28125, 91837.65625]


def planted(seed: int) -> list[list[float]]:
    """Thirty patients; one has the seed's canary in both features."""
    rows = [[(i * 37 % 11) / 7, (i * 53 % 13) / 9, i % 2] for i in range(30)]
    return [*rows, [CANARIES[seed], CANARIES[seed] + 1.0, 1]]


def forms(value: float) -> list[bytes]:
    """How the value could be written."""
    return [
        repr(value).encode(),
        repr(value).rstrip("0").rstrip(".").encode()[:8],
        struct.pack("<d", value),
        struct.pack("<f", value),
    ]


@pytest.mark.parametrize("secure", [False, True])
def test_no_patients_value_leaves_or_is_kept(tmp_path: Path, secure: bool) -> None:
    rows = {name: planted(seed) for seed, name in enumerate("abc")}
    sent = tmp_path / "sent"
    sent.mkdir()
    with federation(tmp_path, rounds=2, secure=secure, rows=rows) as made:
        patch = [("copy_what_leaves", {"folder": str(sent)})]
        made.start(clients={name: patch for name in made.names})
        made.finish()
        assert_sound(made, rounds=2)
        searched = 0
        for path in [*made.folder.rglob("*"), *sent.iterdir()]:
            if path.is_dir() or path.parent == made.folder / "hospitals":
                continue
            data = path.read_bytes()
            searched += 1
            for value in CANARIES:
                found = [form for form in forms(value) if form in data]
                assert not found, f"{path}: {found}"
        assert searched > 40 and sum(path.stat().st_size for path in sent.iterdir()) > 50_000
