"""A hospital's figures with noise: paid for before a row is counted, sent whatever fails, of no
more rows of a patient than are paid for."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import RecordDict
from torch import nn

from wardround.client.app import evaluate, layout
from wardround.client.data.hospital import Hospital, Place
from wardround.client.data.shard import OwnShard
from wardround.client.privacy.entries import Entry, Spent
from wardround.client.privacy.ledger import Ledger
from wardround.client.privacy.round import side_of
from wardround.client.requests.received import ModelCache
from wardround.client.state import ClientState
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import PrivacyRefused, TaskError
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays, encode_arrays
from wardround.common.model.named import build_model, model_arrays
from wardround.common.privacy.accounting import Release, epsilon
from wardround.common.privacy.figures import figure_noise, figure_release, figure_sums
from wardround.common.protocol.evaluate import EvaluateReply, EvaluateRequest
from wardround.common.protocol.layout import LayoutRequest
from wardround.common.protocol.message import Content
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.totals import Totals
from wardround.common.tasks.data.table import Table

TEXT = """
[federation]
rounds = 4
[task]
name = "tabular"
normalise = "none"
missing = "drop"
[task.columns]
target = "ill"
numeric = ["x"]
patient_id = "who"
[data]
validation_fraction = 0.0
test_fraction = 0.5
[secure_aggregation]
enabled = false
[privacy]
unit = "patient"
epsilon = 40.0
records_per_patient = 2
"""


def hospital(folder: Path, rows: list[tuple[float, int, str]], *sets: str) -> Hospital:
    """With these rows; simulated, so that the same request draws the same noise."""
    folder.mkdir(exist_ok=True)
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("x", "ill", "who"), *rows])
    config = parse_config(TEXT, list(sets))
    task = make_task(config)
    ledger = folder / "ledger.sqlite"
    Ledger.create(ledger, "a").close()
    shard = OwnShard("a", task, config, lambda: task.load(folder / "rows.csv"))
    return Hospital(shard, place=Place(simulated=True, ledger_path=ledger))


ROWS = [(0.1 * number - 4, int(number % 3 == 0), f"p{number}") for number in range(80)]


def _totals() -> Sums:
    task = make_task(parse_config(TEXT))
    columns = [list(column) for column in zip(*ROWS, strict=True)]
    table = Table.of(dict(zip(("x", "ill", "who"), columns, strict=True)), Path("rows"))
    return task.condense(task.statistics(table, 0, {}))


TOTALS = _totals()


def request(of: Hospital, weight: float = 1.0, server_round: int = 1) -> Content:
    model = build_model(of.task, TOTALS, of.config.federation.seed)
    made = model_arrays(model).items()
    arrays: Arrays = {name: np.full(x.shape, weight, x.dtype) for name, x in made}
    sent = SentModel(encode_arrays(arrays), server_round)
    return EvaluateRequest(sent, Totals.of(TOTALS)).to_records()


def answered(of: Hospital, content: Content) -> dict[str, Sums]:
    reply = evaluate(ModelCache(), content, of, ClientState(RecordDict()))
    return dict(EvaluateReply.from_records(reply).sums)


def paid(of: Hospital) -> list[Any]:
    assert of.ledger_path is not None
    with Ledger.open(of.ledger_path, "a") as ledger:
        return [one for one in ledger.entries() if one.purpose == "evaluation"]


def test_what_is_sent_is_the_rows_counts_with_the_noise_that_was_paid_for(tmp_path: Path) -> None:
    of = hospital(tmp_path, ROWS)
    found = answered(of, request(of))
    assert list(found) == ["test"] and set(found["test"]) == {"positives", "negatives"}
    (entry,) = paid(of)
    release = figure_release(of.config)
    assert entry.releases == (release,) and entry.clipping_norm == 2.0  # two rows of a patient
    assert entry.side.startswith("test ")  # nobody else's rows were asked about
    noise = figure_noise(of.config, figure_sums(of.config, of.task, TOTALS), 1, None)
    assert noise == release.noise_multiplier * 2
    rows = sum(value.sum() for value in found["test"].values())
    cells = sum(value.size for value in found["test"].values())
    assert abs(rows - of.sizes()["test"]) < 5 * noise * np.sqrt(cells)
    assert all(np.array_equal(v * 64, np.rint(v * 64)) for v in found["test"].values())


def test_asked_again_otherwise_a_hospital_pays_again_and_at_its_limit_refuses(
    tmp_path: Path,
) -> None:
    of = hospital(tmp_path, ROWS)
    first = answered(of, request(of))
    again = answered(of, request(of))  # the same request, in a simulation: the same noise
    assert all(np.array_equal(first["test"][k], again["test"][k]) for k in first["test"])
    for weight in (2.0, 3.0, 4.0):
        answered(of, request(of, weight))
    assert len(paid(of)) == 4
    with pytest.raises(PrivacyRefused):
        answered(of, request(of, 5.0))
    assert len(paid(of)) == 4


def test_kits_with_a_ledger_in_common_hold_out_by_keys_of_their_own(tmp_path: Path) -> None:
    """Who trains at one may be held out at the other: their sides are of two runs."""
    one, same, other = (hospital(tmp_path / name, ROWS) for name in "abc")
    other.held_out = "another key's digest"
    trains = [side_of(each, "training") for each in (one, other)]
    assert trains[0] == side_of(same, "training") != trains[1]
    spent = Spent(
        Entry(
            "f", "", 1, 0, "ab", "", "patient", 1.0, (Release(3.0),), True, side=side_of(each, what)
        )
        for each, what in ((one, "training"), (other, "evaluation"))
    )
    assert spent.epsilon("patient", 1e-5) == epsilon([Release(3.0, 1.0, 2)], 1e-5)


def test_a_patient_counts_with_as_many_rows_as_are_paid_for(tmp_path: Path) -> None:
    """Of a patient's forty rows two count. Both hospitals draw the same noise, by the seed."""
    many = [(0.5, 1, "many")] * 40
    held_out = "data.test_fraction=0.9"
    with_ = hospital(tmp_path / "a", [*ROWS, *many], held_out)
    without = hospital(tmp_path / "b", ROWS, held_out)
    assert "many" in (with_.patients(["test"]) or ())
    sums = [answered(of, request(of))["test"] for of in (with_, without)]
    change = {name: sums[0][name] - sums[1][name] for name in sums[0]}
    assert change["positives"].max() == change["positives"].sum() == 2
    assert not change["negatives"].any()


@pytest.mark.parametrize("how", ["it fails", "it isn't finite"])
def test_a_model_that_fails_on_rows_gets_noise_and_no_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Of a round that fails as a whole zeros carry the noise; a row without an answer adds nothing,
    and hides no other one's."""
    of, same = (hospital(tmp_path / name, ROWS) for name in "ab")
    usual = answered(same, request(same))["test"]

    def forward(self: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
        wrong = (inputs > 3.5).any(dim=1, keepdim=True)
        if wrong.any() and how == "it fails":
            raise ValueError("this row is not like the others")
        found = torch.nn.functional.linear(inputs, self.weight, self.bias)
        return torch.where(wrong, torch.nan, found)

    monkeypatch.setattr(nn.Linear, "forward", forward)
    found = answered(of, request(of))["test"]
    change = {name: usual[name] - found[name] for name in usual}
    lost = sum(float(value.sum()) for value in change.values())
    assert all((value >= 0).all() and value.shape == found[k].shape for k, value in change.items())
    assert any(value.any() for value in found.values()) and len(paid(of)) == 1
    if how == "it fails":
        assert lost == of.sizes()["test"]
    else:
        assert 0 < lost < 6  # of 80 rows those above 3.5, as far as they are held out


def test_names_and_shapes_tell_nothing_of_rows(tmp_path: Path) -> None:
    """A hospital that may have validation rows and has none says the same as one that has."""
    few = hospital(tmp_path / "few", ROWS[:3], "data.validation_fraction=0.1")
    many = hospital(tmp_path / "many", ROWS, "data.validation_fraction=0.1")
    assert "validation" not in few.parts()
    asked = LayoutRequest(Totals.of(TOTALS), None).to_records()
    shapes = [
        str(layout(ModelCache(), asked, of, ClientState(RecordDict()))["secagg"])
        for of in (few, many)
    ]
    assert shapes[0] == shapes[1]
    assert set(answered(few, request(few))) == {"validation", "test"}


def test_a_task_without_bounds_is_refused_before_anything_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = hospital(tmp_path, ROWS, 'privacy.covers=["training", "evaluation"]')
    monkeypatch.setattr(type(of.task), "private_sums", lambda self, totals, noise: None)
    with pytest.raises(TaskError, match="metric_bounds"):
        answered(of, request(of))
    assert paid(of) == []
