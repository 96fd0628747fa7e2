"""A network's hospitals are asked what their data hold, between processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.deployment.network import StandingNetwork, standing
from tests.deployment.network_checks import check_chains, check_ends, check_logs, check_sums
from wardround.client.site.kit import Kit
from wardround.common.results.package import verify_folder
from wardround.simulations import analyse

DESCRIBE = '[procedure]\nname = "describe"\n'
ALLOWS = 'procedures = ["train", "describe"]\n'
SHY = """
[studies."shy-*"]
procedures = ["train"]
approval = "always"
"""


def simulated(made: StandingNetwork) -> str:
    """What the same hospitals give in one process, in plain: equal bytes."""
    folder = made.folder / "simulated"
    (folder / "hospitals").mkdir(parents=True)
    for name in made.names:
        shutil.copy(made.folder / f"{name}.csv", folder / "hospitals")
    text = made.study("simulated", more=DESCRIBE).settings
    text = text.replace("[data]\n", '[data]\npath = "hospitals"\n')
    (folder / "federation.toml").write_text(text)
    found = analyse(folder / "federation.toml")
    return (found.run_directory / "description.json").read_text()


def test_a_description_is_that_of_a_simulation_and_comes_to_all(tmp_path: Path) -> None:
    with standing(tmp_path, at_once=3) as made:
        for name in made.names:
            rules = made.kit(name) / "site.toml"
            rules.write_text(ALLOWS + rules.read_text() + (SHY if name == "south" else ""))
        made.start()
        masked = made.submit(made.study("masked-d", secure=True, more=DESCRIBE))
        shy = made.submit(made.study("shy-d", fewest=2, more=DESCRIBE))
        made.delivered(masked, shy)
        with made.store() as store:
            (said,) = (one for one in store.decisions(shy) if one.word == "rejected")
        assert said.hospital == "south" and "procedures: this hospital allows train" in said.reason
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
        assert texts[0] == simulated(made)
        made.stop()
        check_chains(made)
        check_ends(made)
        check_logs(made)
        check_sums(made)
