"""A network's study ends: every hospital that took part gets its results, whatever it was at."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.client.process.network import Network, StudyRounds
from wardround.client.results.figures import read_own
from wardround.client.results.listing import list_results, verify_results
from wardround.common.audit.lines import told
from wardround.common.audit.log import AuditLog
from wardround.common.protocol import names as m
from wardround.common.protocol.describe import DescribeRequest
from wardround.common.protocol.results import StudyFile
from wardround.common.results.package import list_digest, verify_folder
from wardround.common.run.directory import RunDirectory
from wardround.server.display.board import Board
from wardround.server.network.deliverer import Deliverer
from wardround.server.network.study_run import Premises
from wardround.server.reception.diary import Diary
from wardround.server.results.deliver import deliveries
from wardround.server.results.package import make_package, package_of
from wardround.server.studies.rows import NewStudy
from wardround.server.studies.store import StudyStore


def packaged(network: Network, rounds: StudyRounds) -> tuple[RunDirectory, list[Any]]:
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


def owed(network: Network, rounds: StudyRounds) -> StudyStore:
    """A database that owes the study's results to all of its hospitals."""
    study = rounds.signed.study
    store = StudyStore.open(network.folder / "studies.sqlite")
    new = NewStudy(
        study.id,
        study.name,
        study.researcher,
        study.hospitals,
        rounds.signed.to_bytes(),
        study.end.timestamp(),
    )
    store.submit(new, "anna")
    store.change(study.id, "waiting", expect="submitted", fence=0, who="server")
    store.change(study.id, "queued", expect="waiting", fence=0, who="server")
    row = store.claim("server", 600, 1)
    assert row is not None
    hospitals = study.hospitals
    store.change(
        study.id, "complete", expect="running", fence=row.fence, who="server", results=hospitals
    )
    return store


def brought(network: Network, rounds: StudyRounds, store: StudyStore) -> list[dict[str, Any]]:
    """What is owed, by the server's own deliverer in its threads, to hospitals that answer in this
    one. Gives the lines of the server's audit log on it."""
    folder = network.server
    with AuditLog.open(folder.audit_path, "server", folder.identity) as audit:
        diary = Diary(audit, Board(), folder.description.roster, lambda error: None)
        premises = Premises(
            port=SimpleNamespace(hall=network.hall, diary=diary),  # type: ignore[arg-type]
            library=network.folder,
            runs=network.folder / "runs",
            identity=folder.identity,
        )
        lead = store.lead("one", 600)
        assert lead is not None
        deliverer = Deliverer(premises, store, lead, 64 << 20)
        until = time.monotonic() + 120
        while store.deliveries() and time.monotonic() < until:
            deliverer.look()
            for name in rounds.signed.study.hospitals:
                network.settle[name]()
                if (work := network.studies(name).works.get(rounds.study)) is not None:
                    work.responder.stop()
                    work.responder.run()
                    network.settle[name]()
        assert store.deliveries() == []
        return told(audit.path, "results")


def test_results_reach_who_took_part_also_after_a_restart_or_the_studys_end(
    tmp_path: Path,
) -> None:
    network = Network(tmp_path)
    try:
        rounds = network.running(network.study(rounds=1))
        rounds.train()
        run, messages = packaged(network, rounds)
        theirs, digest = run.rounds()[-1]["hospitals"], list_digest(messages[-1].files)
        network.processes["south"].close()  # south was away, and has been started again
        network.start("south")
        east = network.studies("east")  # for east the study's date has passed before they come
        east.end(rounds.study, east.over("expired", "by its clock"))
        store = owed(network, rounds)
        noted = brought(network, rounds, store)
        store.close()
        assert [(x["digest"], x["state"]) for x in noted] == [(digest, "complete")] * 3
        for name in ("north", "south", "east"):
            kit = network.kits[name]
            folder = kit / "results" / run.path.name
            assert verify_folder(folder, network.server.identity.public).study == rounds.study
            assert json.loads((folder / "left.json").read_text())["messages"]
            assert len(verify_results(kit)) == 1 and len(list_results(kit)) > 3
            (line,) = told(network.processes[name].audit.path, "results")
            assert (line["digest"], line["run"]) == (digest, run.path.name)
            assert rounds.study not in network.studies(name).works
            if name == "east":  # it computes nothing any more
                assert not (folder / "own").exists()
                continue
            own = read_own(folder)
            # which rows are held out is drawn by each hospital's own key: maybe none
            assert own.figures.get("test") == theirs.get(name, {}).get("test")
            assert own.all_rows["train"] > own.rows["train"] > 0
    finally:
        network.close()


def test_a_study_that_is_broken_off_leaves_what_left_and_where_nothing_did_nothing(
    tmp_path: Path,
) -> None:
    network = Network(tmp_path)
    try:
        rounds = network.running(network.study(hospitals=("north", "south")))
        rounds.show(rounds.manifest())
        assert not rounds.ask("north", DescribeRequest().to_records(), m.DESCRIBE).has_error()
        for name, why in (("north", "another study"), ("south", "took no part")):
            study = "ab" * 32 if name == "north" else rounds.study
            piece = StudyFile(study, "files.json", 0, b"{}")
            assert why in rounds.ask(name, piece.to_records(), piece.type).error.reason
        rounds.end("aborted", "anna changed her mind")
        rounds.end("aborted", "anna changed her mind")
        folder = network.kits["north"] / "results" / rounds.signed.study.run
        assert sorted(path.name for path in folder.iterdir()) == ["ended.json", "left.json"]
        assert "aborted: anna changed her mind" in list_results(network.kits["north"])[0]
        assert list_results(network.kits["south"])[0].endswith("no study is over yet")
    finally:
        network.close()
