"""What ``wardround doctor federation.toml`` says of the signed description's life."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.provisioning import federation
from wardround.common.trust.pki import now_utc
from wardround.server.process.doctor import examine
from wardround.server.provision.kits import provision


@pytest.mark.parametrize(
    ("age", "state", "said"),
    [
        (1, "ok", "valid for 28 days"),
        (24, "warning", "5 more days; the coordinator renews it: wardround provision FILE"),
        (31, "error", "has expired by this machine's clock"),
    ],
)
def test_it_warns_a_week_before_the_end(tmp_path: Path, age: int, state: str, said: str) -> None:
    config = federation(tmp_path)
    provision(config, now=now_utc() - timedelta(days=age))
    found = {one.what: one for one in examine(tmp_path / "federation.toml")}
    assert found["description"].state == state and said in found["description"].text
