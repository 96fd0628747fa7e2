"""How long a network stands still when its leader dies: ``python -m tests.deployment.failover``.

Two servers on one database and folder, three hospitals, a study that runs; kill -9 of the leader.
Measured from the kill: until the other one leads, until the study is claimed, until a round more is
committed. Prints a line for each kill and a table of medians.
"""

from __future__ import annotations

from wardround.common.transport.only_tls13 import hold_to_tls13  # isort: skip

hold_to_tls13()

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from tests.deployment.harness import Zygote, until
from tests.deployment.network import StandingNetwork, standing


def main() -> None:
    """For each lease some kills."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--leases", type=float, nargs="+", default=[2.0, 10.0], metavar="SECONDS")
    parser.add_argument("--kills", type=int, default=3)
    options = parser.parse_args()
    try:
        rows = {lease_s: _of_lease(lease_s, options.kills) for lease_s in options.leases}
    finally:
        if Zygote.shared is not None:
            Zygote.shared.close()
    print(
        "| `network.lease_s` | the standby leads | the study is claimed | its next round is there |"
    )
    print("|---|---|---|---|")
    for lease_s, times in rows.items():
        medians = [statistics.median(one) for one in zip(*times, strict=True)]
        print(f"| {lease_s:g} s | " + " | ".join(f"{one:.1f} s" for one in medians) + " |")


def _of_lease(lease_s: float, kills: int) -> list[tuple[float, float, float]]:
    with tempfile.TemporaryDirectory(prefix="failover-") as folder:
        with standing(Path(folder), lease_s=lease_s) as made:
            made.start()
            made.servers["first"].says("leads the network")
            id = made.submit(made.study("long-1", rounds=1000))
            found = [_kill(made, id, number) for number in range(kills)]
            for row in found:
                print(f"lease {lease_s:g} s:", *(f"{one:.2f} s" for one in row), flush=True)
            return found


def _kill(made: StandingNetwork, id: str, number: int) -> tuple[float, float, float]:
    leads, stands = ("first", "second") if number % 2 == 0 else ("second", "first")
    made.start_server(stands).says("standing by")
    made.reach_round(id, len(made.rounds(id)) + 2)
    row = made.row(id)
    made.servers[leads].kill()
    began, before = time.monotonic(), len(made.rounds(id))
    made.servers[stands].says("leads the network")
    led_s = time.monotonic() - began
    until(lambda: made.row(id).fence > row.fence, "the study to be claimed")
    claimed_s = time.monotonic() - began
    until(lambda: len(made.rounds(id)) > before, "the next round")
    return led_s, claimed_s, time.monotonic() - began


if __name__ == "__main__":
    main()
