"""Two federations of real processes over the patients of one hospital: one ledger, one limit."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.deployment.harness import federation, until
from wardround.client.privacy.ledger import Ledger

PRIVATE = '[privacy]\nunit = "example"\nepsilon = 0.8\n'
POLICY = "max_epsilon_total = 1.0\nledger = '{}'\n"


def test_two_federations_spend_a_limit_once_and_what_is_removed_stops_them(tmp_path: Path) -> None:
    """Each plans 0.8 of the hospital's 1.0. Both are called 'trial', and the hospital 'a'."""
    ledger = tmp_path / "shared" / "ledger.sqlite"
    options = {"names": ("a",), "rounds": 2, "extra": PRIVATE, "attempts": 3}
    options |= {"policy": POLICY.format(ledger)}
    with federation(tmp_path / "one", **options) as one:
        one.start()
        one.finish()
        one.stop_clients()
        told = [line for line in one.audit("a") if line["event"] in ("ledger", "sent")]
    with Ledger.open(ledger, "a") as opened:
        assert 0.7 < opened.spent(1e-5, "example") <= 0.8
        rows = len(opened.entries())
    before = [now for now, then in zip(told, told[1:], strict=False) if then.get("kind") == "train"]
    assert len(before) == 2 and all(line["event"] == "ledger" for line in before)
    with federation(tmp_path / "two", **options) as two:
        two.start()
        until(lambda: "its limit is 1" in two.clients["a"].text, "the refusal")
        said = "its privacy budget"  # not by how much
        until(lambda: any(said in why for why in [*two.refusals("a"), *two.refusals()]), said)
        assert not [line for line in two.audit("a") if line.get("epsilon") and line["epsilon"] > 1]
        two.clients["a"].kill()
        with Ledger.open(ledger, "a") as opened:
            assert opened.spent(1e-5, "example") <= 1.0 and len(opened.entries()) >= rows
            assert {name for name, _ in opened.kits()} == {"a"}
        shutil.rmtree(ledger.parent)
        client = two.start_client("a")
        client.says("nothing private is done")
        assert "privacy ledger is missing" in client.text and "Traceback" not in client.text
        assert not ledger.exists()
        client.kill()
        shutil.rmtree(two.kit("a") / "state")
        assert two.server is not None
        two.server.kill()
        two.start_server()
        client = two.start_client("a")  # knows nothing any more; the server does
        client.says("of this kit's audit log, and that line isn't here")
        until(lambda: any("isn't here" in why for why in two.refusals("a")), "the refusal")
        with Ledger.open(ledger, "a") as opened:
            assert not opened.entries()
        assert two.server is not None
        two.server.kill()
