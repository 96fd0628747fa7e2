"""Trees over hospitals that differ: masked is plain, over bundles of keys and restarts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unlike import Consortium
from wardround.client.secagg.party import SecureClient
from wardround.common.errors import CheckpointError, ProtocolRefused
from wardround.common.secagg import messages as wire
from wardround.server.rounds import stepping
from wardround.server.secagg.key_groups import SecureSession
from wardround.simulations import analyse

ASKED = (
    'procedure.name="trees"',
    "procedure.rounds=2",
    "procedure.max_depth=2",
    "procedure.early_stopping=1",
    "data.validation_fraction=0.2",
)
FILES = ("model.json", "trees.json")


def published(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in FILES]


def test_masked_trees_are_the_plain_ones_whatever_fails_at_a_seam_of_keys(
    unlike: Callable[[str], Consortium], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = unlike("binary")
    plain = analyse(made.config(*ASKED, runs=tmp_path / "plain"))
    masked = made.config(*ASKED, "secure_aggregation.enabled=true", runs=tmp_path / "masked")

    # keys for three sums at once: a bundle ends within a tree
    monkeypatch.setattr(wire, "MOST_AGGREGATIONS", 3)
    bundles, make, bundle = list[int](), SecureSession.group, SecureClient.bundle

    def counted(self: SecureSession, names: Any, count: int, limits: Any) -> Any:
        bundles.append(count)
        return make(self, names, count, limits)

    def silent_once(self: SecureClient, data: bytes) -> bytes:
        if len(bundles) == 2 and not silent:
            silent.append(self.name)
            raise ProtocolRefused("it was away for a moment")
        return bundle(self, data)

    silent = list[str]()
    write, written = stepping.write_steps, list[int]()

    def broken(path: Path, earlier: list[Any], names: list[str]) -> None:
        write(path, earlier, names)
        written.append(len(written))
        if len(written) == 6:  # a tree is half grown, a bundle used up
            raise CheckpointError("the power failed")

    monkeypatch.setattr(SecureSession, "group", counted)
    monkeypatch.setattr(SecureClient, "bundle", silent_once)
    monkeypatch.setattr(stepping, "write_steps", broken)
    with pytest.raises(CheckpointError, match="the power failed"):
        analyse(masked)
    before = len(bundles)
    (run,) = (tmp_path / "masked").iterdir()
    found = analyse(resume=run)
    assert silent and before >= 3 and len(bundles) - before >= 2 and max(bundles) == 3
    assert published(found.run_directory) == published(plain.run_directory)
    assert "What each column was worth" in (run / "report.html").read_text()
