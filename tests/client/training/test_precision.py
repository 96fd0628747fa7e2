"""Mixed precision: float32 stays what it was, bf16 is near it, private bounds hold exactly."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.client.small_models import Classes, configured, dirty_memory, residual, rows, vector
from wardround.client.data.hospital import Units
from wardround.client.gradients import make_unit_gradients
from wardround.client.gradients.base import Clipping
from wardround.client.privacy.steps import ClippedGradients
from wardround.client.training import precision as told_precision
from wardround.client.training.evaluation import model_outputs
from wardround.client.training.precision import check_precision, make_scaler
from wardround.client.training.steps import train_model, train_on_batches
from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError
from wardround.common.model.precision import autocast
from wardround.common.privacy.schedule import Bound
from wardround.common.secagg.content import descriptor
from wardround.common.settings import PrivacyTable, TrainingTable
from wardround.common.tasks.base import Examples

SEED = (7, 2, "a")
BF16 = TrainingTable(precision="bf16")


class Seen(nn.Module):
    """Tells in which type a model's last layer computes, and what its loss is given."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = residual()
        self.types: set[torch.dtype] = set()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inside(x)
        self.types.add(out.dtype)
        return out


def test_forward_is_in_16_bits_and_all_that_stays_in_32() -> None:
    torch.manual_seed(0)
    model, given = Seen(), set[torch.dtype]()

    class Watched(Classes):
        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            given.add(outputs.dtype)
            return super().loss(outputs, targets)

    plain = copy.deepcopy(model)
    start = vector(model)
    train_on_batches(model, rows(), Watched(), configured(precision="bf16"), SEED)
    assert model.types == {torch.bfloat16} and given == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    train_on_batches(plain, rows(), Classes(), configured(), SEED)
    assert plain.types == {torch.float32}
    moved, near = vector(plain) - start, vector(model) - start
    assert 0 < float((moved - near).norm() / moved.norm()) < 0.03
    model.types.clear()
    outputs = model_outputs(model, rows(), BF16)
    assert model.types == {torch.bfloat16} and outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, model_outputs(model, rows()), rtol=0.05, atol=0.05)


class Thin(nn.Module):
    """Convolutions over volumes as small as those of a network's last stage."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(self._block() for _ in range(2)))
        self.head = nn.Linear(16, 3)

    @staticmethod
    def _block() -> nn.Module:
        up = nn.ConvTranspose3d(16, 16, 3, padding=1)
        return nn.Sequential(nn.Conv3d(16, 16, 3, padding=1), nn.ReLU(), up)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(x).mean((2, 3, 4)))
        return out


class Strided(nn.Module):
    """A stride that leaves one position of one, over images and sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Conv2d(16, 16, 3, padding=1, stride=2)
        self.line = nn.Conv1d(16, 16, 3, padding=1, stride=2)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        found = torch.tanh(self.flat(x[:, :, 0, :1, :1])).flatten(2)
        out: Tensor = self.head(self.line(found).flatten(1))
        return out


def volumes() -> Examples:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(16, 16, 2, 2, 2, generator=generator)
    return Examples(inputs, torch.arange(16) % 3)


@pytest.mark.parametrize("again", [False, True])
def test_gradients_over_thin_volumes_hold_nothing_of_the_memory(again: bool) -> None:
    """oneDNN's own in 16 bits do: parts of a weight's gradient are never written."""
    torch.manual_seed(0)
    model = Thin()
    model.head.register_full_backward_hook(dirty_memory)
    plain, start = copy.deepcopy(model), vector(model)
    settings = {"checkpoint_activations": again, "local_epochs": 4}
    train_on_batches(model, volumes(), Classes(), configured(precision="bf16", **settings), SEED)
    train_on_batches(plain, volumes(), Classes(), configured(**settings), SEED)
    moved, near = vector(plain) - start, vector(model) - start
    assert 0 < float((moved - near).norm() / moved.norm()) < 0.03


def test_gradients_of_a_single_position_hold_nothing_of_the_memory() -> None:
    torch.manual_seed(0)
    model = Strided()
    model.head.register_full_backward_hook(dirty_memory)
    plain, start = copy.deepcopy(model), vector(model)
    for precision, one in (("bf16", model), ("float32", plain)):
        settings = configured(precision=precision, local_epochs=4)
        train_on_batches(one, volumes(), Classes(), settings, SEED)
    moved, near = vector(plain) - start, vector(model) - start
    assert 0 < float((moved - near).norm() / moved.norm()) < 0.03


def test_a_unit_s_gradient_over_thin_volumes_is_near_too() -> None:
    torch.manual_seed(0)
    thin, data, found = Thin(), volumes(), []
    thin.head.register_full_backward_hook(dirty_memory)
    for training in (TrainingTable(), BF16):
        engine = make_unit_gradients(thin, Classes().loss, "auto", lambda t=training: autocast(t))
        total = engine.clipped_sum(data.inputs[:2], data.targets[:2], None, 2, Clipping(1e3))
        found.append(torch.cat([one.flatten() for one in total.gradients]))
    exact, near = found
    assert 0 < float((exact - near).norm() / exact.norm()) < 0.03


FORMS = ("auto", "bookkeeping", "functional", "opacus", "loop")


class Conv(nn.Module):
    """Layers of each book-keeping rule: embedding, convolution, normalisation, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 6)
        self.conv = nn.Conv1d(6, 6, 3, padding=1)
        self.norm = nn.GroupNorm(2, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.norm(self.conv(self.embed(x).transpose(1, 2))))
        out: Tensor = self.head(h.mean(2))
        return out


def cases() -> list[tuple[nn.Module, Tensor, Tensor]]:
    data = rows(24)
    tokens = torch.randint(5, (24, 7), generator=torch.Generator().manual_seed(1))
    return [(residual(), data.inputs * 30, data.targets), (Conv(), tokens, data.targets)]


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_no_unit_adds_more_than_the_clipping_norm(form: str, per_layer: bool) -> None:
    """The sum over one unit alone is its contribution: its norm, in float64, is within C."""
    torch.manual_seed(0)
    for model, inputs, targets in cases():
        engine = make_unit_gradients(model, Classes().loss, form, lambda: autocast(BF16))
        engine.clipped_sum(inputs, targets, None, 24, Clipping(1.0))  # one row alone proves nothing
        for bound in (1e-3, 0.1, 1e3):
            clipping = Clipping(bound, per_layer)
            for row in range(12):
                one = slice(row, row + 1)
                found = engine.clipped_sum(inputs[one], targets[one], None, 1, clipping)
                square = sum(float(g.double().square().sum()) for g in found.gradients)
                assert square**0.5 <= bound * (1 + 1e-6)
                assert {g.dtype for g in found.gradients} == {torch.float32}


@pytest.mark.parametrize("form", ["auto", "functional", "opacus", "loop"])
def test_attention_keeps_the_bound(form: str) -> None:
    """Layers without a book-keeping form, whose gradients ``vmap`` or autograd give."""
    torch.manual_seed(0)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(5, 8)
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x)
            out: Tensor = self.head(self.attend(h, h, h, need_weights=False)[0].mean(1))
            return out

    _, (_, tokens, targets) = cases()
    engine = make_unit_gradients(Attention(), Classes().loss, form, lambda: autocast(BF16))
    whole = engine.clipped_sum(tokens, targets, None, 24, Clipping(0.05))
    total = [torch.zeros_like(g) for g in whole.gradients]
    for row in range(24):
        one = slice(row, row + 1)
        alone = engine.clipped_sum(tokens[one], targets[one], None, 1, Clipping(0.05))
        square = sum(float(g.double().square().sum()) for g in alone.gradients)
        assert 0 < square**0.5 <= 0.05 * (1 + 1e-6)
        total = [t + g for t, g in zip(total, alone.gradients, strict=True)]
    for found, added in zip(whole.gradients, total, strict=True):
        torch.testing.assert_close(found, added, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("form", ["bookkeeping", "functional", "opacus", "loop"])
def test_units_among_others_and_alone_add_up(form: str) -> None:
    """Patients of several rows: the batch's sum is the sum of what each adds alone, and far from
    float32's own sum by no more than 16 bits are."""
    torch.manual_seed(0)
    for model, inputs, targets in cases():
        units = torch.arange(24) // 3
        engine = make_unit_gradients(model, Classes().loss, form, lambda: autocast(BF16))
        clipping = Clipping(0.05)
        whole = engine.clipped_sum(inputs, targets, units, 8, clipping)
        assert torch.isfinite(whole.norms).all() and whole.losses.dtype == torch.float32
        total = [torch.zeros_like(g) for g in whole.gradients]
        for unit in range(8):
            part = units == unit
            alone = engine.clipped_sum(inputs[part], targets[part], units[part] * 0, 1, clipping)
            total = [t + g for t, g in zip(total, alone.gradients, strict=True)]
            square = sum(float(g.double().square().sum()) for g in alone.gradients)
            assert square**0.5 <= 0.05 * (1 + 1e-6)
        exact = make_unit_gradients(model, Classes().loss, form).clipped_sum(
            inputs, targets, units, 8, clipping
        )
        for found, added, plain in zip(whole.gradients, total, exact.gradients, strict=True):
            torch.testing.assert_close(found, added, rtol=2e-2, atol=2e-3)
            torch.testing.assert_close(found, plain, rtol=0.1, atol=1e-2)


def test_private_steps_use_it() -> None:
    torch.manual_seed(0)
    model = Seen()
    table = PrivacyTable(unit="example", noise_multiplier=1.0)
    units = Units.of(np.arange(23), 32, 0)
    total = {}
    for training in (BF16, TrainingTable()):
        clipped = ClippedGradients(model, Classes().loss, rows(), units, table, training)
        model.types.clear()
        total[training.precision] = clipped.total(np.arange(23), Bound(0.1))
        assert (torch.bfloat16 in model.types) == (training.precision == "bf16")
    distance = np.linalg.norm(total["bf16"] - total["float32"])
    assert 0 < distance < 0.05 * np.linalg.norm(total["float32"])


def test_a_step_that_overflows_counts_and_moves_nothing() -> None:
    """The gradient scaler's part of fp16, on the CPU: gradients g s, one of them infinite."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=100)
    gradients, seen = [2.0, float("inf"), 3.0, float("nan")], list[float]()

    class Watch:
        def adjust_gradients(self) -> None:
            assert model.weight.grad is not None
            seen.append(float(model.weight.grad))

    def steps() -> Any:
        for gradient in gradients:
            model.weight.grad = scaler.scale(torch.full((1, 1), gradient))
            yield torch.tensor(1.0)

    config = configured(lr=0.5)
    outcome = train_model(model, steps(), config, SEED, Watch(), scaler)  # type: ignore[arg-type]
    assert outcome.steps == 4
    assert seen[0] == 2.0 and seen[2] == 3.0  # strategies see gradients that are not scaled
    assert model.weight.item() == 1.0 - 0.5 * 2.0 - 0.5 * 3.0
    assert scaler.get_scale() == 2.0  # halved twice


def test_a_scaled_loss_gives_the_same_steps() -> None:
    torch.manual_seed(0)
    model = residual()
    plain = copy.deepcopy(model)
    options: dict[str, Any] = {"optimizer": "adam", "max_grad_norm": 0.1, "micro_batch_size": 3}
    train_on_batches(plain, rows(), Classes(), configured(**options), SEED)
    with pytest.MonkeyPatch.context() as patched:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        patched.setattr("wardround.client.training.steps.make_scaler", lambda training: scaler)
        train_on_batches(model, rows(), Classes(), configured(**options), SEED)
    torch.testing.assert_close(vector(model), vector(plain), rtol=1e-5, atol=1e-6)
    assert make_scaler(TrainingTable()) is None and make_scaler(BF16) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nprecision = 'fp16'\n", ":2: training.precision: 'fp16' needs a GPU"),
        (
            "[training]\nprecision = 'fp16'\ndevice = 'cuda'\n"
            "[privacy]\nunit = 'patient'\nepsilon = 1.0\n",
            ":2: training.precision: 'fp16' scales losses",
        ),
    ],
)
def test_what_can_not_be_had_is_refused(tmp_path: Any, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_precision(parse_config(text, path=tmp_path / "federation.toml"))
    check_precision(parse_config("[training]\nprecision = 'fp16'\ndevice = 'cuda:1'\n"))
    check_precision(parse_config("[training]\nprecision = 'bf16'\n"))


def test_it_is_each_hospitals_own() -> None:
    own = "[training]\nprecision = 'bf16'\nmicro_batch_size = 3\ncompile = true\n"
    assert descriptor(parse_config(own)) == descriptor(parse_config(""))
    other = "[training]\ndistillation = 0.5\n"
    assert descriptor(parse_config(other)) != descriptor(parse_config(""))


def test_a_processor_that_has_no_bf16_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """I8: measured once; not asked for other precisions or devices."""
    before = torch.random.get_rng_state()
    assert 0 < told_precision.bf16_ratio() < 1000
    assert torch.equal(torch.random.get_rng_state(), before)
    monkeypatch.setattr(told_precision, "bf16_ratio", lambda: 2.66)
    assert "takes 2.7 times as long as 'float32'" in told_precision.slow_precision(BF16)
    monkeypatch.setattr(told_precision, "bf16_ratio", lambda: 1.1)
    assert told_precision.slow_precision(BF16) == ""
    monkeypatch.delattr(told_precision, "bf16_ratio")
    assert told_precision.slow_precision(TrainingTable()) == ""
    assert told_precision.slow_precision(TrainingTable(precision="fp16", device="cuda:0")) == ""
