"""Importance and robustness over hospitals: a closed form's, scikit-learn's, the same masked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.inspection import permutation_importance
from torch import nn

from tests.unlike import Consortium
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError
from wardround.common.figures.sums import Sums, add_sums
from wardround.common.procedures.evaluate.alter_rows import altered_images, altered_tokens
from wardround.common.procedures.evaluate.altered import Altered, check_altered
from wardround.common.tasks.base import Task
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.text.encoder import encoder_folder, make_tokenizer
from wardround.common.tasks.text.task import TextTask
from wardround.simulations import analyse, simulate

PLAIN, MASKED = "secure_aggregation.enabled=false", "secure_aggregation.enabled=true"
ONE = ("federation.rounds=1", "simulation.baselines=false", PLAIN)
COLUMNS = """
[task]
kind = "regression"
[task.columns]
target = "y"
numeric = ["a", "b", "none", "constant"]
binary = ["rare"]
categorical = ["ward"]
[task.columns.categories]
ward = ["x", "y", "z"]
[procedure]
name = "evaluate"
"""
WEIGHTS = {"a": 3.0, "b": -1.0, "none": 0.0, "constant": 5.0, "rare": 400.0}
WARDS = {"x": 0.0, "y": 2.0, "z": -2.0}


class Known:
    """The least squares model of all rows."""

    digest = "0" * 64

    def __init__(self, task: Task[Any], parts: list[Table]) -> None:
        self.totals: Sums = {}
        for phase in range(task.phases):
            own = [task.statistics(part, phase, self.totals) for part in parts]
            self.totals = self.totals | add_sums(own)
        self.totals = task.condense(self.totals)
        given = [task.prepare(part, self.totals, part) for part in parts]
        self.inputs = torch.cat(
            [one.inputs for one in given if isinstance(one.inputs, torch.Tensor)]
        )
        self.targets = torch.cat([one.targets for one in given])
        whole = torch.cat([self.inputs, torch.ones(len(self.inputs), 1)], dim=1).double()
        found = torch.linalg.lstsq(whole, self.targets[:, :1].double(), driver="gelsd").solution
        self.layer = nn.Linear(self.inputs.shape[1], 1).requires_grad_(False)
        self.layer.weight[0], self.layer.bias[0] = found[:-1, 0].float(), found[-1, 0].float()

    def trained(self) -> nn.Module:
        return self.layer


def rows(generator: np.random.Generator, count: int, rare: int) -> dict[str, Any]:
    found: dict[str, Any] = {name: generator.normal(size=count) for name in ("a", "b", "none")}
    found |= {"constant": np.full(count, 7.0), "rare": (np.arange(count) < rare).astype(int)}
    found["ward"] = generator.choice(list(WARDS), count)
    signal = sum(WEIGHTS[n] * found[n] for n in ("a", "b", "rare"))
    ward = np.array([WARDS[one] for one in found["ward"]])
    found["y"] = signal + ward + generator.normal(size=count)
    return found


SIZES, RARE = (700, 500, 300, 33, 1), (2, 1, 0, 0, 0)


def asked(more: str) -> tuple[Altered, Known, dict[str, Any]]:
    """Importance and robustness of the least squares model over five hospitals."""
    config = parse_config(COLUMNS + more)
    task, generator = make_task(config), np.random.default_rng(3)
    parts = [Table.of(rows(generator, *one), Path("rows")) for one in zip(SIZES, RARE, strict=True)]
    known = Known(task, parts)
    altered = Altered(config, task, known)  # type: ignore[arg-type]
    sums = []
    for part in parts:
        given = task.prepare(part, known.totals, part)
        outputs = known.layer(given.inputs)
        sums.append(altered.sums({"test": part}, ["test"], outputs, given.targets))
        none = part.select(np.zeros(0, np.int64))
        blank = altered.sums({"test": none}, ["test"], outputs[:0], given.targets[:0])
        assert {k: v.shape for k, v in blank.items()} == {k: v.shape for k, v in sums[-1].items()}
    return altered, known, altered.shown(add_sums(sums))


def test_importance_is_the_closed_form_and_scikit_learns() -> None:
    """E of the squared error with x permuted is the error and 2 b^2 Var(x), for each hospital's
    own rows; that of pooled rows is scikit-learn's."""
    _, known, found = asked("importance = true\nrepeats = 10")
    lines = {one["input"]: one for one in found["importance"]}
    clean = found["clean"]
    assert clean == pytest.approx(1.0, abs=0.05)  # of the noise alone

    def worse(variance: float) -> float:
        return float(np.sqrt(clean**2 + 2 * variance) - clean)

    assert lines["a"]["drop"] == pytest.approx(worse(9.0), rel=0.04)
    assert lines["b"]["drop"] == pytest.approx(worse(1.0), rel=0.1)
    assert lines["ward"]["drop"] == pytest.approx(worse(8 / 3), rel=0.06)  # all indicators together
    assert abs(lines["none"]["drop"]) < 0.005 and lines["none"]["spread"] > 0
    assert lines["constant"]["drop"] == 0 == lines["constant"]["spread"]
    assert (
        lines["rare"]["drop"] == 0
    )  # three persons of 1,534 have it, and it is their whole target
    assert [one["input"] for one in found["importance"][:3]] == ["a", "ward", "b"]

    class Model:
        def fit(self) -> None: ...

        def score(self, inputs: Any, targets: Any) -> float:
            off = known.layer(torch.from_numpy(inputs))[:, 0].numpy() - targets
            return -float(np.sqrt((off**2).mean())) * float(known.targets[0, 1])

    theirs = permutation_importance(
        Model(), known.inputs.numpy(), known.targets[:, 0].numpy(), n_repeats=10, random_state=1
    )
    for place, name in enumerate(("a", "b")):
        error = 4 * np.hypot(theirs.importances_std[place], lines[name]["spread"]) / np.sqrt(10)
        assert abs(lines[name]["drop"] - theirs.importances_mean[place]) < error


def test_robustness_is_the_closed_form() -> None:
    _, known, found = asked('robustness = ["noise", "absent"]\nstrengths = { noise = [0.5, 1] }')
    clean, scale = found["clean"], known.targets[0, 1]
    noise = {one["strength"]: one for one in found["robustness"] if one["kind"] == "noise"}
    weights = float((known.layer.weight[0, :4] ** 2).sum()) * float(scale) ** 2
    for strength, one in noise.items():
        expected = np.sqrt(clean**2 + strength**2 * weights)
        assert one["value"] == pytest.approx(expected, rel=0.03)
    absent = {one["input"]: one for one in found["robustness"] if one["kind"] == "absent"}
    # of a number the median stands for a gap: b^2 Var(x) is lost, not twice that
    assert absent["a"]["drop"] == pytest.approx(np.sqrt(clean**2 + 9) - clean, rel=0.04)
    assert absent["constant"]["drop"] == 0 == absent["rare"]["drop"]
    assert absent["a"]["spread"] is None


def test_images_are_altered_as_stated() -> None:
    draw = np.random.default_rng(1)
    image = torch.from_numpy(draw.integers(90, 160, (3, 1, 16, 16)).astype(np.uint8))
    values = image.float()
    flat = altered_images(image, kind="contrast", strength=1.0, draw=draw)
    assert flat.dtype == torch.uint8
    assert (flat.float() - values.mean(dim=(1, 2, 3), keepdim=True)).abs().max() <= 0.5
    bright = altered_images(image / 255, kind="brightness", strength=0.5, draw=draw)
    deviation = (values / 255).std(dim=(1, 2, 3), keepdim=True, correction=0)
    assert torch.allclose(bright, values / 255 + 0.5 * deviation, atol=1e-6)
    noisy = altered_images(image / 255, kind="noise", strength=0.5, draw=draw)
    spread = ((noisy - values / 255) / deviation).std()
    assert float(spread) == pytest.approx(0.5, rel=0.1)
    point = torch.zeros(1, 1, 31, 31)
    point[0, 0, 15, 15] = 1
    blurred = altered_images(point, kind="blur", strength=2.0, draw=draw)[0, 0]
    steps = torch.arange(31) - 15.0
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-5)
    assert float((blurred.sum(0) * steps**2).sum()) == pytest.approx(4, rel=0.05)


def test_tokens_are_unknown_but_those_around_a_text(
    unlike: Callable[[str], Consortium],
) -> None:
    made = unlike("entities")
    task = make_task(made.config())
    assert isinstance(task, TextTask)
    shard = next(iter(task.sites(made.folder / "hospitals").values()))
    tokens = torch.from_numpy(task.load(shard).tokens.astype(np.int64))
    known = make_tokenizer(encoder_folder(task.options.encoder))
    draw = np.random.default_rng(2)
    for row, before in zip(altered_tokens(tokens, task, 1.0, draw), tokens, strict=True):
        inside = int((before != known.pad).sum()) - len(known.suffix)
        around = [*range(len(known.prefix)), *range(inside, len(before))]
        assert (row[around] == before[around]).all()
        assert (row[len(known.prefix) : inside] == known.unknown).all()
    some = altered_tokens(tokens, task, 0.3, draw)
    inner = tokens != altered_tokens(tokens, task, 1.0, draw)
    assert float((some != tokens)[inner].double().mean()) == pytest.approx(0.3, abs=0.08)


CASES = {
    "binary": ('procedure.importance=["ward", "smoker"]', 'procedure.robustness=["missing"]'),
    "multiclass": ("procedure.importance=true", "procedure.repeats=2"),
    "images2d": ('procedure.robustness=["noise", "blur"]', "procedure.repeats=2"),
}


@pytest.mark.parametrize("kind", CASES)
def test_masked_is_plain(kind: str, unlike: Callable[[str], Consortium], tmp_path: Path) -> None:
    made = unlike(kind)
    run = simulate(made.config(*ONE, runs=tmp_path / "trained")).run_directory
    model = 'procedure.name="evaluate"', f"procedure.model={json.dumps(str(run))}"
    found = []
    for number, secure in enumerate((PLAIN, MASKED)):
        config = made.config(secure, *model, *CASES[kind], runs=tmp_path / str(number))
        done = analyse(config)
        found.append(done.published["evaluation.json"])
        page = (done.run_directory / "report.html").read_text()
        assert "worse by" in page
    plain, masked = (one["altered"] for one in found)
    assert plain == masked
    name = plain["figure"]
    clean = found[0]["within"][name]["mean"] if name == "auc" else found[0]["figures"][name]
    assert plain["clean"] == pytest.approx(clean, abs=5e-4)
    lines = plain["importance"] + plain["robustness"]
    assert all(one["drop"] == pytest.approx(plain["clean"] - one["value"]) for one in lines)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('importance = ["y"]', "'y' is no input of the model"),
        ("importance = []", "true, or columns"),
        ('robustness = ["blur"]', "'blur' isn't for this task; it has noise, missing, absent"),
        ('robustness = ["noise"]\nstrengths = { noise = [99] }', "numbers from 0.001 to 10"),
        ("strengths = { noise = [1] }", "'noise' has none here"),
        ("importance = true\nrepeats = 21", "less than or equal to 20"),
    ],
)
def test_what_does_not_go_together_is_refused_by_key(more: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        asked_of = parse_config(COLUMNS + more)
        task = make_task(asked_of)
        check_altered(asked_of, task)
        part = Table.of(rows(np.random.default_rng(1), 50, 1), Path("rows"))
        Altered(asked_of, task, Known(task, [part]))  # type: ignore[arg-type]
