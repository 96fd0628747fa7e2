"""A network's hospitals are asked what their data hold, and how good a model is by groups, between
processes: each is what a simulation of the same hospitals gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.common.run.test_tracking import scalars
from tests.deployment.network import StandingNetwork, standing
from tests.deployment.network_checks import check_chains, check_ends, check_logs, check_sums
from tests.deployment.network_words import DESCRIBE, JUDGED, TREES, write_rows
from tests.provisioning import hold_out_as_simulated
from wardround.client.site.kit import Kit
from wardround.common.config.finished import model_digest
from wardround.common.results.package import verify_folder
from wardround.simulations import analyse

STATISTICS = """[procedure]
name = "statistics"
[[procedure.analyses]]
name = "parts"
kind = "pca"
columns = ["first", "second"]
[[procedure.analyses]]
name = "both"
kind = "crosstab"
rows = "ill"
columns = "old"
"""
ALLOWS = """
studies_at_once = 5 # a child each: with fewer than run, one would end at almost every request
"""
SHY = """
[studies."shy-*"]
procedures = ["train"]
groups = []
approval = "always"
"""


def simulated(made: StandingNetwork) -> Path:
    """Settings of the same hospitals in one process."""
    folder = made.folder / "simulated"
    (folder / "hospitals").mkdir(parents=True)
    for name in made.names:
        shutil.copy(made.folder / f"{name}.csv", folder / "hospitals")
    return folder / "federation.toml"


def in_plain(made: StandingNetwork, toml: Path, asked: str) -> Path:
    """Where it lies what they give in plain: equal bytes."""
    text = made.study("simulated", more=asked).settings
    toml.write_text(text.replace("[data]\n", '[data]\npath = "hospitals"\n'))
    return analyse(toml).run_directory


def judged(made: StandingNetwork, toml: Path, model: Path) -> Any:
    """What they say of the same model. (Two trainings differ by how their masked updates were
    rounded.)"""
    text = made.study("simulated", secure=True, more=JUDGED).settings
    toml.write_text(text.replace("[data]\n", '[data]\npath = "hospitals"\n'))
    asked = ['procedure.name="evaluate"', f'procedure.model="{model}"']
    return analyse(toml, overrides=asked).published["judgement.json"]["columns"]


def columns(path: Path) -> Any:
    return json.loads(path.read_text())["columns"]


def check_statistics(made: StandingNetwork, id: str, expected: Path) -> None:
    """Masked, between processes, what came to every hospital has the bytes of a plain simulation;
    counts in words, several key exchanges of others beside it."""
    assert made.row(id).state == "complete", made.tails()
    files = {"statistics.json", "parts.csv", "parts_loadings.csv", "both.csv"}
    for name in made.names:
        folder = made.kit(name) / "results" / made.sent[id].run
        for file in files:
            assert (folder / file).read_bytes() == (expected / file).read_bytes(), (name, file)
        assert "Share of variance" in (folder / "report.html").read_text()


def check_trees(made: StandingNetwork, id: str, expected: Path) -> None:
    """The same of trees: sums in words of 64 bits, and a state that grows."""
    assert made.row(id).state == "complete", made.tails()
    for name in made.names:
        folder = made.kit(name) / "results" / made.sent[id].run
        for file in ("model.json", "trees.json"):
            assert (folder / file).read_bytes() == (expected / file).read_bytes(), (name, file)
        assert "2 trees in 2 rounds" in (folder / "report.html").read_text()


def check_judged(made: StandingNetwork, trained: str, toml: Path) -> None:
    """The run's own judgement, and that of a study on the finished model, which is each hospital's
    own copy, are the simulation's."""
    folders = [made.kit(name) / "results" / made.sent[trained].run for name in made.names]
    (digest,) = {model_digest(folder) for folder in folders}
    asked = f'[procedure]\nname = "evaluate"\nmodel_digest = "{digest}"\n'
    later = made.submit(made.study("masked-l", secure=True, more=asked + JUDGED))
    made.delivered(later)
    assert made.row(later).state == "complete", made.tails()
    expected = judged(made, toml, folders[0])
    assert len(expected[0]["rows"]) == 2 and expected[0]["figures"]
    for name, folder in zip(made.names, folders, strict=True):
        assert columns(folder / "model" / "judgement.json") == expected
        answered = made.kit(name) / "results" / made.sent[later].run
        assert columns(answered / "judgement.json") == expected
        assert "By groups" in (answered / "report.html").read_text()


def test_a_description_is_that_of_a_simulation_and_comes_to_all(tmp_path: Path) -> None:
    with standing(tmp_path, at_once=3) as made:
        for number, name in enumerate(made.names):
            write_rows(made.folder / f"{name}.csv", number, 150 + 40 * number)
            hold_out_as_simulated(made.kit(name), 1, name)
            rules = made.kit(name) / "site.toml"
            rules.write_text(ALLOWS + rules.read_text() + (SHY if name == "south" else ""))
        with made.file.open("a") as file:
            file.write('[tracking]\nto = ["tensorboard"]\n')
        made.start()
        trained = made.submit(made.study("masked-j", secure=True, rounds=2, lr=1.0, more=JUDGED))
        masked = made.submit(made.study("masked-d", secure=True, more=DESCRIBE))
        statistics = made.submit(made.study("masked-s", secure=True, more=STATISTICS))
        grown = made.submit(made.study("masked-t", secure=True, more=TREES))
        shy = made.submit(made.study("shy-d", fewest=2, more=DESCRIBE))
        made.delivered(trained, masked, statistics, grown, shy, patience_s=180)
        with made.store() as store:
            (said,) = (one for one in store.decisions(shy) if one.word == "rejected")
        assert said.hospital == "south" and "procedures: the run's procedure is" in said.reason
        texts = []
        for id, names in ((masked, made.names), (shy, ("east", "north"))):
            assert made.row(id).state == "complete", made.tails()
            for name in names:
                folder = made.kit(name) / "results" / made.sent[id].run
                package = verify_folder(folder, Kit.open(made.kit(name)).description.server)
                files = {one.name for one in package.files}
                assert {"description.json", "report.html", "plan.json", "run.json"} <= files
                assert not any(one.startswith("model/") for one in files)
                texts.append((folder / "description.json").read_text())
                # exact numbers of rows would help who subtracts
                assert "rows" not in json.loads((folder / "run.json").read_text())
                assert "No model was trained" in (folder / "own" / "report.html").read_text()
        assert len(set(texts[:3])) == 1 and len(set(texts[3:])) == 1
        assert json.loads(texts[3])["hospitals"] == 2
        tracked = scalars(made.folder / "runs" / "tracking" / made.sent[trained].run)
        assert [step for step, _ in tracked["round"]] == [1, 2]
        toml = simulated(made)
        assert texts[0] == (in_plain(made, toml, DESCRIBE) / "description.json").read_text()
        check_statistics(made, statistics, in_plain(made, toml, STATISTICS))
        check_trees(made, grown, in_plain(made, toml, TREES))
        check_judged(made, trained, toml)
        made.stop()
        check_chains(made)
        check_ends(made)
        check_logs(made)
        check_sums(made)
