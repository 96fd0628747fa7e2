"""The text task through the product: adapters, masked sums, executors, privacy, real corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.common.tasks.text.tiny import tiny_encoder
from wardround.client.gradients import Clipping, make_unit_gradients
from wardround.common.model.named import build_model, model_arrays
from wardround.common.tasks.text import TextTask
from wardround.simulations import Result, load_model, parse_config, simulate

TINY = """
[federation]
rounds = 2
[task]
name = "text"
encoder = "encoder"
max_length = 64
[training]
optimizer = "adamw"
lr = 0.01
batch_size = 16
[simulation]
clients = 3
partition = "iid"
baselines = false
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a federation.toml would stand, with the encoder beside it."""
    place = tmp_path_factory.mktemp("federation")
    tiny_encoder(place / "encoder")
    return place


def run(folder: Path, *overrides: str) -> Result:
    config = parse_config(
        TINY, [f"federation.runs={folder / 'runs'}", *overrides], folder / "federation.toml"
    )
    return simulate(config)


def losses(result: Result) -> list[float]:
    found = [r.value for r in result.records if (r.metric, r.hospital) == ("loss", "overall")]
    return [value for value in found if np.isfinite(value)]


@pytest.mark.parametrize(
    ("tuning", "more"),
    [
        ("full", {}),
        ("lora", {"base_dtype": "nf4"}),
        ("ffa_lora", {}),
        ("dora", {"base_dtype": "int8"}),
        ("adalora", {"base_dtype": "bf16"}),
        ("ia3", {}),
        ("prompt", {"prompt_tokens": 4}),
        ("head", {}),
    ],
)
def test_every_tuning_trains_under_masked_sums(
    folder: Path, tuning: str, more: dict[str, Any]
) -> None:
    """And what was saved is read again: a simulation ends with that."""
    result = run(
        folder, f"task.tuning={tuning}", *(f"task.{key}={value}" for key, value in more.items())
    )
    assert result.config.secure_aggregation.enabled
    task = TextTask(encoder=str(folder / "encoder"), max_length=64, tuning=tuning, **more)
    start = build_model(task, {}, 1)
    before, after = model_arrays(start), model_arrays(result.model)
    assert set(before) == set(after)
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    assert result.figure("loss") < np.log(3)
    sent = result.rounds[-1]["bytes_up"] / 3
    assert (
        sum(a.nbytes for a in after.values())
        < sent
        < 2 * sum(a.nbytes for a in after.values()) + 20_000
    )


def test_processes_train_the_same_model(folder: Path) -> None:
    """With dropout, which draws from the hospital's own generator."""
    models = [
        model_arrays(run(folder, f"simulation.executor={name}").model)
        for name in ("sequential", "processes", "auto")
    ]
    for name, value in models[0].items():
        for other in models[1:]:
            np.testing.assert_allclose(other[name], value, atol=1e-6)


def test_texts_with_classes_train(folder: Path) -> None:
    result = run(folder, "task.kind=sequence", "task.tuning=full", "training.lr=0.003")
    assert 0 <= result.figure("auc") <= 1 and result.figure("loss") < 0.75


UNLIKE = {
    "north": [("fever", "a", "no", "renal"), ("cough", "b", "yes", "acute")] * 12,
    "one row": [("fever", "b", "no", "renal")],
    "one answer": [("the", "a", "", "acute")] * 33,
    "few": [("cough of the", "c", "no", "with fever"), ("acute", "", "no", "of")] * 3,
}
"""Texts with a class in each of two columns, and an answer."""


@pytest.mark.parametrize(
    ("kind", "heads"),
    [("labels", "task.heads={place=['a','b','c'],urgent=['no','yes']}"), ("pairs", "task.top_k=2")],
)
def test_hospitals_unlike_each_other_train(tmp_path: Path, kind: str, heads: str) -> None:
    """Of a class, a column or an answer that a hospital lacks, and of one row, under masks."""
    tiny_encoder(tmp_path / "encoder")
    for name, rows in UNLIKE.items():
        numbered = (",".join((*row, str(number))) for number, row in enumerate(rows))
        lines = ["text,place,urgent,answer,number", *numbered]
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}.csv").write_text("\n".join(lines) + "\n")
    more = [f"task.kind={kind}", heads, "data.path=data", "simulation.partition=sites"]
    config = parse_config(
        TINY.replace("clients = 3\n", ""),
        [f"federation.runs={tmp_path / 'runs'}", "data.test_fraction=0.4", *more],
        tmp_path / "federation.toml",
    )
    result = simulate(config)
    assert result.config.secure_aggregation.enabled and np.isfinite(result.figure("loss"))
    found = load_model(result.run_directory).predict(["fever", "the cough"])
    assert len(found) == 2 and all(np.isfinite(v).all() for v in found.columns.values())


@pytest.mark.parametrize(
    "more",
    [
        ["strategy.name=scaffold", "training.optimizer=sgd"],
        ["strategy.personal_layers=['head.*']"],
        ["training.precision=bf16", "task.tuning=adalora"],
        ["training.checkpoint_activations=true", "training.micro_batch_size=5"],
        ["training.distillation=0.5"],
    ],
)
def test_strategies_and_ways_of_training_take_it(folder: Path, more: list[str]) -> None:
    result = run(folder, *more)
    assert np.isfinite(result.figure("loss"))


def test_examples_are_protected(folder: Path) -> None:
    result = run(folder, "privacy.unit=example", "privacy.epsilon=8", "task.tuning=ffa_lora")
    assert {"f1", "precision", "recall"} <= set(result.rounds[-1]["overall"]["test"])  # noised


@pytest.mark.parametrize(
    ("kind", "tuning", "form", "more"),
    [
        ("tokens", "lora", "bookkeeping", {"base_dtype": "int8"}),
        ("sequence", "ffa_lora", "bookkeeping", {}),
        ("tokens", "full", "bookkeeping", {}),
        ("sequence", "full", "bookkeeping", {}),
        ("sequence", "adalora", "functional", {"base_dtype": "bf16"}),
        ("tokens", "dora", "functional", {"base_dtype": "nf4"}),
        ("tokens", "ia3", "functional", {}),
        ("sequence", "prompt", "functional", {"prompt_tokens": 4}),
        ("sequence", "lora", "opacus", {}),
        ("tokens", "full", "opacus", {}),
    ],
)
def test_clipped_gradients_are_those_of_autograd(folder, kind, tuning, form, more) -> None:
    """Sum over sentences of the gradient, scaled to a norm of at most C, one by one."""
    task = TextTask(
        kind=kind,
        encoder=str(folder / "encoder"),
        max_length=64,
        tuning=tuning,
        dropout=0.0,
        **more,
    )
    model = build_model(task, {}, seed=1).train()
    generator = torch.Generator().manual_seed(0)
    parameters = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in parameters:  # B is zero at first, and with it A's gradient
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    rows = task.load(None).select(np.arange(0, 192, 16))
    examples = task.prepare(rows, {}, rows)
    bound = 0.5
    expected = [torch.zeros_like(p) for p in parameters]
    for one in range(len(examples)):
        loss = task.loss(model(examples.inputs[one : one + 1]), examples.targets[one : one + 1])
        found = torch.autograd.grad(loss.sum(), parameters)
        norm = torch.sqrt(sum(g.square().sum() for g in found))
        for total, gradient in zip(expected, found, strict=True):
            total += gradient * torch.clamp(bound / norm, max=1.0)
    asked = "opacus" if form == "opacus" else "auto"
    engine = make_unit_gradients(model, task.loss, asked)
    result = engine.clipped_sum(
        examples.inputs, examples.targets, None, len(examples), Clipping(bound)
    )
    assert engine.form == form
    for (name, _), gradient, total in zip(
        engine.parameters, result.gradients, expected, strict=True
    ):
        torch.testing.assert_close(gradient, total, rtol=1e-3, atol=1e-5, msg=name)


def test_dropout_does_not_take_the_fast_form_away(folder: Path) -> None:
    """Rows of different lengths are trimmed together, and draw as much as before."""
    task = TextTask(encoder=str(folder / "encoder"), max_length=64, dropout=0.3)
    model = build_model(task, {}, seed=1).train()
    rows = task.load(None)
    examples = task.prepare(rows, {}, rows)
    engine = make_unit_gradients(model, task.loss)
    engine.clipped_sum(examples.inputs[:32], examples.targets[:32], None, 32, Clipping(1.0))
    assert engine.form == "bookkeeping"


def test_the_bundled_encoder_learns_the_built_in_example(tmp_path: Path) -> None:
    """No file, no option: 192 invented sentences, MiniLM, LoRA."""
    text = TINY.replace('encoder = "encoder"\n', "")
    settings = [
        "training.lr=0.01",
        "training.batch_size=8",
        "federation.rounds=1",
        "training.local_steps=16",
        "secure_aggregation.enabled=false",
        "simulation.clients=2",
    ]
    result = simulate(parse_config(text, [f"federation.runs={tmp_path / 'runs'}", *settings]))
    assert result.figure("f1") > 0.5  # a model that says nothing has 0


def test_the_real_corpora_are_read_whole(folder: Path, data_folder: Path) -> None:
    """Sentences as SOURCE.txt says: 5424/923/940 and 4560/4581/4797; longer ones are several."""
    corpora = data_folder / "bio_ner"
    if not corpora.is_dir():
        pytest.skip("needs bio_ner of WARDROUND_DATA")
    task = TextTask(encoder=str(folder / "encoder"), max_length=80)
    assert list(task.sites(corpora)) == ["bc5cdr_disease", "ncbi_disease"]
    rows = task.load(corpora / "ncbi_disease")
    sentences = np.unique(rows.origin, axis=0)
    files = [path.stem for path in rows.files]
    counts = {name: int((sentences[:, 0] == files.index(name)).sum()) for name in files}
    assert counts == {"train": 5424, "devel": 923, "test": 940}
    assert not rows.left_out and len(rows) > 5424 + 923 + 940
    # every disease that begins in the files begins in the rows
    begun = sum(
        line.endswith("\tB-Disease")
        for path in rows.files
        for line in path.read_text(encoding="utf-8").splitlines()
    )
    assert int((rows.targets == 1).sum()) == begun
