"""A network's study on a snapshot: whose rows, which columns, for how long, and who can be told."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.client.process.network import HOSPITALS, SITE, Network
from wardround.client.site.consent import decide
from wardround.client.site.held import held
from wardround.client.site.held_out import held_out_key
from wardround.client.site.opted_out import change_list, opt_out_path, patients_key
from wardround.client.site.policy import load_site
from wardround.common.errors import WardroundError
from wardround.common.protocol import names as m
from wardround.common.protocol.describe import DescribeRequest
from wardround.common.tasks.data.snapshot import PATIENT
from wardround.common.trust.pki import now_utc

RULES = """
columns = ["first", "second", "patient", "ill"]
[data.icu]
path = "{path}"
patient_id = "patient"
[studies."*"]
data = "icu"
"""


@pytest.fixture
def network(tmp_path: Path) -> Network:
    made = Network(tmp_path, SITE, data=False)
    for name in HOSPITALS:
        rules = RULES.format(path=tmp_path / f"{name}.csv")
        (made.kits[name] / "site.toml").write_text(SITE + rules)
    return made


def test_a_snapshot_lives_as_long_as_its_study_and_a_patient_can_be_told(network: Network) -> None:
    rounds = network.running(network.study(rounds=1))
    state = network.processes["north"].kit.state
    rounds.train()
    folder = state / "studies" / rounds.study / "data"
    (taken,) = folder.glob("*.parquet")
    table = pq.read_table(taken)
    assert set(table.column_names) == {"first", "second", "patient", "ill", PATIENT}
    kit, patients = network.processes["north"].kit, sorted(set(table.column(PATIENT).to_pylist()))
    trained = [one for one in patients if held(kit, one, now_utc()).runs]
    assert 0 < len(trained) <= len(patients)
    rounds.end("aborted")
    assert not folder.exists()
    states = {one.state for one in held(kit, trained[0], now_utc()).runs}
    assert states == {"aborted"}
    network.close()


def test_a_study_that_asks_for_more_is_refused_and_nothing_is_taken(network: Network) -> None:
    signed = network.study(target="old")
    rounds = network.running(signed)
    with pytest.raises(WardroundError, match="columns: the study asks for column 'old'"):
        rounds.show(rounds.manifest())
    network.close()


def test_who_opts_out_is_out_of_a_study_that_runs_in_another_process(network: Network) -> None:
    rounds = network.running(network.study(rounds=2))
    kit = network.processes["south"].kit
    site = load_site(kit.site_path)
    key = patients_key(held_out_key(site, kit.folder))
    done = []

    def between() -> None:
        trained = kit.state / "trained"
        if trained.is_dir() and not done and list(trained.glob("*.json")):
            done.append(change_list(opt_out_path(site, kit.folder), key, ["p3-0", "p3-1", "p3-2"]))

    rounds.between = between
    rounds.train()
    assert done == [3]
    found = [held(kit, f"p3-{number}", now_utc()).runs for number in range(3)]
    spans = [one.rounds for runs in found for one in runs]
    assert spans and all(one == [[1, 1]] for one in spans)
    network.close()


def test_a_file_of_a_folder_that_was_only_just_named_is_not_told(tmp_path: Path) -> None:
    """What its name says of a patient stays at home also where nothing could be made of it."""
    network = Network(tmp_path, SITE, data=False)
    plain = '[data.icu]\npath = "{}"\n[studies."*"]\ndata = "icu"\n'
    for name in HOSPITALS:
        rules = plain.format(tmp_path / f"{name}.csv")
        (network.kits[name] / "site.toml").write_text(SITE + rules)
    rounds = network.running(network.study())
    rounds.show(rounds.manifest())
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "Doe, Jane.csv").write_text('first,second,patient,ill\n"1,2\n')
    (network.kits["north"] / "site.toml").write_text(SITE + plain.format(folder))
    with pytest.raises(WardroundError, match="its data don't fit") as told:
        rounds.show(rounds.manifest())
    assert "Jane" not in str(told.value)
    network.close()


def test_who_rejects_a_study_has_its_rows_removed_and_an_approval_takes_them_anew(
    network: Network,
) -> None:
    rounds = network.running(network.study(rounds=1))
    kit, studies = network.kits["north"], network.studies("north")
    folder = kit / "state" / "studies" / rounds.study / "data"

    def decided(yes: bool) -> None:
        reason = None if yes else "not this question"
        decide(kit, yes, reason, None, [].append, lambda _: True, rounds.study)
        studies.note_decisions()

    rounds.show(rounds.manifest())
    assert list(folder.glob("*.parquet"))
    decided(yes=False)
    assert not folder.exists()
    decided(yes=True)
    rounds.show(rounds.manifest())
    assert list(folder.glob("*.parquet"))
    assert not rounds.ask("north", DescribeRequest().to_records(), m.DESCRIBE).has_error()
    network.close()
