"""Steps of DP-SGD beside Opacus' and beside SGD without privacy.

    python -m benchmarks.dpsgd [--quick] [--json PATH]

One thread, batches of 64, clipping norm 1, noise multiplier 1, SGD. Examples per second of a whole
step: forward, backward, clipping, noise, update; medians over rounds in which all take turns. Noise
is ``torch.randn`` on every side but in 'a client's own step': it is the clipping that is compared.

plain           the same model and step without privacy, by torch
hooks, functorch, ew, ghost  Opacus' modes; a cell is empty where it can't do the model, or where
                its first step isn't ours
example level   ours, every example its own unit
patient level   ours, 16 patients with 4 records each; shuffled: in no order; uneven: 1 to 13
without noise   the same steps with a noise multiplier of 0: what clipping alone costs
a client's own  what a hospital runs: 64 of 1,024 examples expected, drawn by Poisson, noise of
                whole numbers from AES with a key of the operating system; Opacus has none such

Before anything is timed, the clipped sum is compared with that of a loop over the units, and
Opacus' with it too.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.report import Row, arguments, emit
from wardround.client.data.hospital import Units
from wardround.client.gradients import Clipping, make_unit_gradients
from wardround.client.privacy.steps import ClippedGradients, PrivateSteps
from wardround.client.training.steps import PlainSGD
from wardround.common.privacy.noise import NoiseSource
from wardround.common.privacy.schedule import Schedule
from wardround.common.settings import PrivacyTable
from wardround.common.tasks.base import Examples

BATCH, SHARD, PATIENTS, NORM, LR = 64, 1024, 16, 1.0, 0.1
MODES = ("hooks", "functorch", "ew", "ghost")
AGREES = 1e-3
"""Of the sum's norm."""


# --- models ---------------------------------------------------------------------------------------
def mlp() -> nn.Module:
    """784-200-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))


def cnn() -> nn.Module:
    """Two convolutions and two dense layers on 3 x 32 x 32, 1.6 million parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12544, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


class LowRank(nn.Module):
    """A frozen linear layer and a trained difference of rank 8 (Hu et al. 2022, 2106.09685)."""

    def __init__(self, inputs: int, outputs: int, rank: int = 8) -> None:
        super().__init__()
        self.base_layer = nn.Linear(inputs, outputs).requires_grad_(False)
        self.lora_A = nn.Linear(inputs, rank, bias=False)
        self.lora_B = nn.Linear(rank, outputs, bias=False)
        nn.init.normal_(self.lora_B.weight, std=0.02)  # zeros would leave lora_A no gradient

    def forward(self, x: Tensor) -> Tensor:
        """The adapted layer."""
        return self.base_layer(x) + 2.0 * self.lora_B(self.lora_A(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention over 4 heads and a feed-forward part, as in BERT."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (LowRank(width, width) for _ in range(3))
        self.out = LowRank(width, width)
        self.up, self.down = LowRank(width, 4 * width), LowRank(4 * width, width)
        self.first = nn.LayerNorm(width).requires_grad_(False)
        self.second = nn.LayerNorm(width).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """B x T x width."""
        size, length, width = x.shape
        q, k, v = (
            layer(x).view(size, length, 4, width // 4).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        x = self.first(x + self.out(mixed.reshape(size, length, width)))
        return self.second(x + self.down(F.gelu(self.up(x))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Two blocks of width 128 on 32 tokens; trained are the adapters and the head."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(1000, 128).requires_grad_(False)
        self.blocks = nn.Sequential(Block(128), Block(128))
        self.head = nn.Linear(128, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """B x 32, int64, to B x 2."""
        return self.head(self.blocks(self.tokens(tokens)).mean(1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Case:
    """A model and a batch for it. ``shape`` is None for tokens."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...] | None
    classes: int

    def model(self) -> nn.Module:
        """The same weights every time."""
        torch.manual_seed(0)
        return self.make().train()

    def batch(self) -> tuple[Tensor, Tensor]:
        """Inputs and labels."""
        generator = torch.Generator().manual_seed(1)
        if self.shape is None:
            inputs = torch.randint(0, 1000, (BATCH, 32), generator=generator)
        else:
            inputs = torch.randn(BATCH, *self.shape, generator=generator)
        return inputs, torch.randint(0, self.classes, (BATCH,), generator=generator)


CASES = (
    Case("MLP 784-200-10", mlp, (28, 28), 10),
    Case("CNN 1.6 M", cnn, (3, 32, 32), 10),
    Case("encoder, LoRA rank 8", Encoder, None, 2),
)


# --- steps ----------------------------------------------------------------------------------------
def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of each example."""
    return F.cross_entropy(outputs, targets, reduction="none")


def plain_step(case: Case) -> Callable[[], None]:
    """SGD without privacy."""
    model, (inputs, targets) = case.model(), case.batch()
    optimizer = PlainSGD([p for p in model.parameters() if p.requires_grad], LR)

    def step() -> None:
        model.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def our_step(case: Case, units: Tensor | None, noise: float = 1.0) -> Callable[[], None]:
    """Clipped sum, noise, SGD."""
    model, (inputs, targets) = case.model(), case.batch()
    engine = make_unit_gradients(model, losses)
    count = BATCH if units is None else PATIENTS
    optimizer = PlainSGD([p for _, p in engine.parameters], LR)

    def step() -> None:
        found = engine.clipped_sum(inputs, targets, units, count, Clipping(NORM))
        for (_, p), gradient in zip(engine.parameters, found.gradients, strict=True):
            if noise:
                gradient.add_(torch.randn_like(gradient), alpha=noise * NORM)
            p.grad = gradient.div_(BATCH)
        optimizer.step()

    return step


def clients_step(case: Case) -> Callable[[], None]:
    """A step as ``wardround client`` and ``simulate`` take it with local noise."""
    model, (inputs, targets) = case.model(), case.batch()
    rows = np.tile(np.arange(BATCH), SHARD // BATCH)
    units = Units.of(np.arange(SHARD), 1, 0)
    table = PrivacyTable(unit="example", noise_multiplier=1.0, clipping_norm=NORM)
    examples = Examples(inputs, targets).select(rows)
    gradients = ClippedGradients(model, losses, examples, units, table)
    schedule = Schedule(1.0, BATCH / SHARD, 1, 1, BATCH)
    optimizer = PlainSGD([p for _, p in gradients.parameters], LR)
    source = NoiseSource.system()

    def step() -> None:
        for _ in PrivateSteps(gradients, SHARD, schedule, table, NORM, source):
            optimizer.step()

    return step


def opacus_parts(case: Case, mode: str, noise: float) -> tuple[nn.Module, Any, Any]:
    """Opacus' model, optimiser and criterion."""
    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    model = case.model()
    trained = [p for p in model.parameters() if p.requires_grad]
    keywords: dict[str, Any] = dict(
        module=model,
        optimizer=torch.optim.SGD(trained, LR),
        data_loader=DataLoader(TensorDataset(*case.batch()), batch_size=BATCH),
        noise_multiplier=noise,
        max_grad_norm=NORM,
        poisson_sampling=False,
        grad_sample_mode=mode,
    )
    if mode == "ghost":
        keywords["criterion"] = nn.CrossEntropyLoss()
        model, optimizer, criterion, _ = PrivacyEngine().make_private(**keywords)
        return model, optimizer, criterion
    model, optimizer, _ = PrivacyEngine().make_private(**keywords)
    return model, optimizer, nn.CrossEntropyLoss()


def opacus_step(case: Case, mode: str, noise: float = 1.0) -> Callable[[], nn.Module]:
    """The same step by Opacus; gives the model."""
    model, optimizer, criterion = opacus_parts(case, mode, noise)
    inputs, targets = case.batch()

    def step() -> nn.Module:
        optimizer.zero_grad()
        criterion(model(inputs), targets).backward()
        optimizer.step()
        return model

    return step


# --- checks ---------------------------------------------------------------------------------------
def clipped(case: Case, form: str, units: Tensor | None) -> Tensor:
    """All coordinates of the clipped sum of the first step."""
    engine = make_unit_gradients(case.model(), losses, form)
    count = BATCH if units is None else PATIENTS
    found = engine.clipped_sum(*case.batch(), units, count, Clipping(NORM))
    return torch.cat([gradient.flatten() for gradient in found.gradients])


def check_ours(case: Case, units: Tensor | None) -> None:
    """RuntimeError unless our fastest form agrees with a loop over the units."""
    found, wanted = clipped(case, "auto", units), clipped(case, "loop", units)
    if not float((found - wanted).norm()) <= AGREES * float(wanted.norm()):
        raise RuntimeError(f"{case.name}: the clipped sum is wrong")


def opacus_agrees(case: Case, mode: str, wanted: Tensor) -> bool:
    """Whether Opacus' first step without noise is the right one."""
    before = case.model()
    after = opacus_step(case, mode, noise=0.0)()
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    change = [(old - new).flatten() for old, new in pairs if old.requires_grad]
    found = torch.cat(change).detach() * (BATCH / LR)
    return float((found - wanted).norm()) <= 10 * AGREES * float(wanted.norm())


def opacus_steps(case: Case, noise: float) -> dict[str, Callable[[], Any]]:
    """The modes that can do this model rightly."""
    wanted, steps = clipped(case, "loop", None), {}
    for mode in MODES:
        try:
            right = opacus_agrees(case, mode, wanted)
        except Exception as error:  # whatever Opacus can't do
            print(f"opacus {mode}, {case.name}: {type(error).__name__}", file=sys.stderr)
            continue
        if right:
            steps[mode] = opacus_step(case, mode, noise)
        else:
            print(f"opacus {mode}, {case.name}: a wrong step", file=sys.stderr)
    return steps


# --- timing ---------------------------------------------------------------------------------------
def rates(steps: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Examples per second of each: medians over rounds in which all take turns."""
    repeats = {}
    for name, step in steps.items():
        step()
        start = time.perf_counter()
        step()
        repeats[name] = max(1, round(0.02 / (time.perf_counter() - start)))
    found: dict[str, list[float]] = {name: [] for name in steps}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(found["plain"]) < 5:
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                step()
            found[name].append(BATCH * repeats[name] / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in found.items()}


def patients() -> dict[str, Tensor]:
    """Units of a batch, by name of the row."""
    ordered = torch.arange(BATCH) // (BATCH // PATIENTS)
    mixed = ordered[torch.randperm(BATCH, generator=torch.Generator().manual_seed(2))]
    sizes = torch.tensor([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5, 6, 8, 10, 13])
    uneven = torch.repeat_interleave(torch.arange(PATIENTS), sizes)
    return {
        "patient level": ordered,
        "patient level, shuffled": mixed,
        "patient level, uneven": uneven,
    }


def measure(case: Case, seconds: float) -> list[Row]:
    """The rows of one model."""
    steps: dict[str, Callable[[], Any]] = {"plain": plain_step(case)}
    levels: dict[str, Tensor | None] = {"example level": None, **patients()}
    for name, units in levels.items():
        check_ours(case, units)
        steps[name] = our_step(case, units)
    theirs = opacus_steps(case, 1.0)
    steps["a client's own step"] = clients_step(case)
    steps["without noise"] = our_step(case, None, 0.0)
    quiet = {f"{mode} without noise": step for mode, step in opacus_steps(case, 0.0).items()}
    found = rates({**steps, **theirs, **quiet}, seconds)
    plain, ours = found["plain"], found["example level"]
    peers: dict[str, float | None] = {mode: found.get(mode) for mode in MODES}
    silent: dict[str, float | None] = {mode: found.get(f"{mode} without noise") for mode in MODES}
    rows = [
        Row(case.name, f"{name}, examples/s", found[name], "higher", given, plain)
        for name, given in [
            *((name, peers) for name in levels),
            ("without noise", silent),
            ("a client's own step", peers),
        ]
    ]
    fastest = ours / max(found[mode] for mode in theirs)
    alone = found["without noise"] / max(found[name] for name in quiet)
    rows += [
        Row(case.name, "example level / Opacus' fastest", fastest, "higher"),
        Row(case.name, "without noise / Opacus' fastest", alone, "higher"),
        Row(case.name, "example level / plain", ours / plain, "higher"),
        Row(
            case.name, "a client's own step / plain", found["a client's own step"] / plain, "higher"
        ),
    ]
    for name in list(levels)[1:]:
        rows.append(Row(case.name, f"example level / {name}", ours / found[name], "lower"))
    return rows


def main() -> None:
    """Run, print and write. The limit of a rate is that of the step without privacy."""
    options = arguments(__doc__ or "")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows = []
    for case in CASES:
        print(f"{case.name} ...", file=sys.stderr, flush=True)
        rows += measure(case, 4.0 if options.quick else 30.0)
    emit("DP-SGD, batches of 64, one thread", rows, options.json)


if __name__ == "__main__":
    main()
