"""Stopping on purpose, full disks, torn files."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.common.run.test_tracking import scalars
from tests.deployment.checks import assert_same_model, assert_sound
from tests.deployment.harness import Federation, Patch, Process, federation, until
from wardround.common.errors import AuditError

SLOW: list[Patch] = [
    ("slow", {"place": "wardround.client.process.responder:Responder._run_app", "seconds": 0.1})
]


def test_sigterm_ends_the_server_cleanly_and_it_goes_on(
    tmp_path: Path, undisturbed: Federation
) -> None:
    """Its tracker has each round once, and the hospitals never hear of it."""
    with federation(tmp_path) as made:
        with made.config.open("a") as file:  # after it was provisioned: no hospital must agree
            file.write('\n[tracking]\nto = ["tensorboard"]\n')
        made.start(clients={name: SLOW for name in made.names})
        made.reach_round(1)
        assert made.server is not None
        made.server.signal(signal.SIGTERM)
        assert made.server.wait() == 130
        assert (
            "Traceback" not in made.server.text
            and "started again, the server goes on" in made.server.text
        )
        made.clients["a"].says("said goodbye")
        made.start_server()
        made.finish()
        assert_same_model(made, undisturbed)
        assert_sound(made, rounds=4)
        tracked = scalars(made.folder / "runs" / "tracking" / made.run.name)
        assert [step for step, _ in tracked["round"]] == [1, 2, 3, 4] and "test/auc" in tracked
        for client in made.clients.values():
            assert "Traceback" not in client.text


def test_the_kill_switch(tmp_path: Path) -> None:
    """Within a second nothing more leaves, also of a hospital that is at work; and it stays so. One
    that is frozen is stopped, too."""
    with federation(tmp_path, rounds=900, min_clients=2) as made:
        made.start(clients={name: SLOW for name in made.names})
        made.reach_round(1)
        proxy, client, began = made.proxies["c"], made.clients["c"], time.monotonic()
        kit = str(made.kit("c"))
        stop = Process(["client", "stop", kit], made.folder, made.folder / "stop.log")
        assert stop.wait() == 0
        client.wait()
        took = time.monotonic() - began
        up = proxy.up
        last = made.rounds()[-1]["round"]
        until(lambda: made.rounds()[-1]["round"] >= last + 3, "rounds without c")
        assert proxy.up == up and proxy.last_up - began < 1.5, "something left"
        print(f"ended after {took:.2f} s, the last byte after {proxy.last_up - began:.2f} s")
        again = made.start_client("c")
        assert again.wait() == 12 and "--undo" in again.text
        made.clients.pop("c")
        undo = Process(["client", "stop", kit, "--undo"], made.folder, made.folder / "stop.log")
        assert undo.wait() == 0
        made.start_client("c")
        until(lambda: "c" in made.rounds()[-1]["accepted"], "a round with c")
        frozen, kit = made.clients["b"], str(made.kit("b"))
        frozen.signal(signal.SIGSTOP)
        stop = Process(["client", "stop", kit], made.folder, made.folder / "stop.log")
        assert stop.wait() == 0 and "killed" in stop.text
        assert frozen.wait() == -signal.SIGKILL
        made.server.kill()
        assert_sound(made)


def test_full_disks_cost_attempts_and_nothing_else(tmp_path: Path, undisturbed: Federation) -> None:
    answers = (
        "fail_writes",
        {"place": "wardround.client.process.answers:Answers.keep", "count": 2},
    )
    store = (
        "fail_writes",
        {"place": "wardround.common.durable.records:DurableState.save", "count": 2, "after": 6},
    )
    spool = (
        "fail_writes",
        {"place": "tempfile:SpooledTemporaryFile.write", "count": 2, "after": 16},
    )
    with federation(tmp_path) as made:
        made.start(server=[spool], clients={"a": [answers], "b": [store]})
        made.finish()
        assert_same_model(made, undisturbed)
        assert_sound(made, rounds=4)
        assert any("No space left" in reason for reason in made.refusals("a"))


def test_a_log_that_cant_be_written_ends_its_party_in_one_line_and_it_goes_on(
    tmp_path: Path,
) -> None:
    """The audit log is what grows. At a server the rounds end at once, for good, and not for
    ever."""
    with federation(tmp_path, rounds=900) as made:
        small: Patch = ("limit_files", {"size_bytes": 40_000})
        made.start([("limit_files", {"size_bytes": 160_000})], {"a": [small]})
        assert made.server is not None
        assert made.clients["a"].wait() == AuditError.exit_code
        last = made.clients["a"].text.splitlines()[-1]
        assert "audit.jsonl: can't be written (File too large); make room or mend its" in last
        made.start_client("a")
        assert made.server.wait() == AuditError.exit_code
        said, *more = (line for line in made.server.text.splitlines() if line.startswith("wardr"))
        assert "audit.jsonl: can't be written (File too large)" in said and not more
        assert "start again: `wardround server` goes on with it" in said
        assert "Traceback" not in made.server.text and "ERROR" not in made.server.text
        last = made.rounds()[-1]["round"]
        made.start_server()
        made.reach_round(last + 2)
        made.server.kill()
        assert_sound(made)


def test_a_disk_that_fills_at_a_commit_ends_the_server_and_a_torn_checkpoint_is_passed_over(
    tmp_path: Path, undisturbed: Federation
) -> None:
    place = "wardround.server.rounds.commits:write_checkpoint"
    with federation(tmp_path) as made:
        full = ("fail_writes", {"place": place, "count": 1})
        made.start(server=[full], clients={name: SLOW for name in made.names})
        assert made.server is not None
        assert made.server.wait() not in (0, -signal.SIGKILL)
        assert "No space left" in made.server.text and "Traceback" not in made.server.text
        made.start_server()
        made.reach_round(3)
        made.server.kill()
        newest = max((made.run / "checkpoints").glob("*.safetensors"))
        os.truncate(newest, newest.stat().st_size // 2)
        made.start_server()
        made.finish()
        assert_same_model(made, undisturbed)
        assert_sound(made, rounds=4)


def test_a_damaged_ledger_stops_private_training_there(tmp_path: Path) -> None:
    private = '[privacy]\nunit = "example"\nnoise_multiplier = 2.0\n'
    with federation(tmp_path, rounds=900, min_clients=2, extra=private) as made:
        made.start(clients={name: SLOW for name in made.names})
        made.reach_round(2)
        made.clients["c"].kill()
        ledger = made.kit("c") / "state" / "ledger.sqlite"
        for path in ledger.parent.glob("ledger.sqlite*"):
            if path == ledger:
                path.write_bytes(b"")
            elif not path.name.endswith("head"):
                path.unlink()
        client = made.start_client("c")
        last = made.rounds()[-1]["round"]
        until(lambda: made.rounds()[-1]["round"] >= last + 4, "rounds without c")
        assert all("c" not in row["accepted"] for row in made.rounds()[last + 1 :])
        assert "ledger" in client.text and "Traceback" not in client.text
        assert made.server is not None
        made.server.kill()
