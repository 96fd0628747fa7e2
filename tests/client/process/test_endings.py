"""A network's study ends: every hospital that took part gets its results, whatever it was at."""

from __future__ import annotations

import json
from pathlib import Path

from tests.client.process.network import Network, StudyRounds
from wardround.client.results.figures import read_own
from wardround.client.results.listing import list_results, verify_results
from wardround.common.protocol.results import StudyEnded
from wardround.common.results.package import verify_folder
from wardround.common.run.directory import RunDirectory
from wardround.server.results.deliver import Delivery, deliveries
from wardround.server.results.package import make_package, package_of


def packaged(network: Network, rounds: StudyRounds) -> tuple[RunDirectory, list[Delivery]]:
    """The study's run, and what is sent when it is complete."""
    study, server = rounds.signed.study, network.server
    run = RunDirectory.open(network.folder / "runs" / study.run)
    run.keep_plan(rounds.manifest().body())
    folder = make_package(
        run,
        server.identity,
        network=study.network,
        study=study.id,
        signed_study=rounds.signed.to_bytes(),
    )
    package = package_of(folder, server.identity.public)
    return run, list(deliveries(folder, package, 1 << 20))


def deliver(rounds: StudyRounds, name: str, messages: list[Delivery]) -> None:
    for message in messages:
        reply = rounds.ask(name, message.to_records(), message.type)
        assert not reply.has_error(), reply.error.reason


def test_results_reach_who_took_part_also_after_a_restart_or_the_studys_end(
    tmp_path: Path,
) -> None:
    network = Network(tmp_path)
    try:
        rounds = network.running(network.study(rounds=1))
        rounds.train()
        run, messages = packaged(network, rounds)
        theirs = run.rounds()[-1]["hospitals"]
        deliver(rounds, "north", messages)
        network.processes["south"].close()  # south was away, and has been started again
        network.start("south")
        deliver(rounds, "south", messages)
        east = network.studies("east")  # for east the study's date has passed before they come
        east.end(rounds.study, east.over("expired", "by its clock"))
        deliver(rounds, "east", messages)
        for name in ("north", "south", "east"):
            kit = network.kits[name]
            folder = kit / "results" / run.path.name
            assert verify_folder(folder, network.server.identity.public).study == rounds.study
            assert json.loads((folder / "left.json").read_text())["messages"]
            assert len(verify_results(kit)) == 1 and len(list_results(kit)) > 3
            assert rounds.study not in network.studies(name).works
            if name == "east":  # it computes nothing any more
                assert not (folder / "own").exists()
                continue
            own = read_own(folder)
            assert own.figures["test"] == theirs[name]["test"]
            assert own.all_rows["train"] > own.rows["train"] > 0
        deliver(rounds, "north", messages)  # an answer was lost: the same again
    finally:
        network.close()


def test_a_study_that_is_broken_off_leaves_what_left_and_one_that_never_began_nothing(
    tmp_path: Path,
) -> None:
    network = Network(tmp_path)
    try:
        rounds = network.running(network.study(rounds=1, hospitals=("north", "south", "east")))
        rounds.train()
        rounds.end("aborted", "anna changed her mind")
        for name in ("north", "south", "east"):
            folder = network.kits[name] / "results" / rounds.signed.study.run
            assert sorted(path.name for path in folder.iterdir()) == ["ended.json", "left.json"]
            assert "aborted: anna changed her mind" in list_results(network.kits[name])[0]
        shown = network.running(network.study(name="other", rounds=1))
        shown.show(shown.manifest())
        run, messages = packaged(network, rounds)
        reply = shown.ask("north", messages[0].to_records(), messages[0].type)
        assert "another study" in reply.error.reason
        shown.end("expired")
        never = StudyEnded(shown.study, "expired")
        assert not shown.ask("north", never.to_records(), never.type).has_error()
        assert len(list((network.kits["north"] / "results").iterdir())) == 1
    finally:
        network.close()
