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
                whole numbers from AES with a key of the operating system, which a second thread
                draws while the model trains
with the same   Opacus' fastest mode, given such noise of ours, drawn in line (it has none: its
noise           secure mode wants torchcsprng, which no longer installs, and draws four times)

Rates are of the clock, on a machine with two idle cores; 'processor time' counts both threads.

Before anything is timed, the clipped sum is compared with that of a loop over the units, and
Opacus' with it too.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.dpsgd_models import BATCH, CASES, Case
from benchmarks.report import Row, arguments, emit
from wardround.client.data.hospital import Units
from wardround.client.gradients import Clipping, make_unit_gradients
from wardround.client.privacy.steps import ClippedGradients, PrivateSteps
from wardround.client.training.steps import PlainSGD
from wardround.common.privacy.noise import NoiseSource
from wardround.common.privacy.schedule import Schedule
from wardround.common.settings import PrivacyTable
from wardround.common.tasks.base import Examples

SHARD, STEPS, PATIENTS, NORM, LR = 1024, 64, 16, 1.0, 0.1
MODES = ("hooks", "functorch", "ew", "ghost")
AGREES = 1e-3
"""Of the sum's norm."""
SAME_NOISE = "Opacus' fastest, the same noise"
SYSTEM = NoiseSource.system()


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
    """A step as ``wardround client`` and ``simulate`` take it with local noise; a round has 64."""
    model, (inputs, targets) = case.model(), case.batch()
    rows = np.tile(np.arange(BATCH), SHARD // BATCH)
    units = Units.of(np.arange(SHARD), 1, 0)
    table = PrivacyTable(unit="example", noise_multiplier=1.0, clipping_norm=NORM)
    examples = Examples(inputs, targets).select(rows)
    gradients = ClippedGradients(model, losses, examples, units, table)
    schedule = Schedule(1.0, BATCH / SHARD, STEPS, 1, BATCH)
    optimizer = PlainSGD([p for _, p in gradients.parameters], LR)

    def rounds() -> Iterator[None]:
        while True:
            source = NoiseSource.system()
            for _ in PrivateSteps(gradients, SHARD, schedule, table, NORM, source):
                optimizer.step()
                yield

    return rounds().__next__


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


def whole_numbers(std: float, reference: Tensor, *_: Any, **__: Any) -> Tensor:
    """Noise of Opacus' strength for a tensor, of whole numbers as a client draws them."""
    sigma = 400_000.0
    drawn = SYSTEM.discrete_gaussian(sigma, reference.numel()).astype(np.float32)
    return torch.from_numpy(drawn).mul_(std / sigma).view(reference.shape)


def with_system_noise(step: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """An Opacus step whose optimiser draws ``whole_numbers``."""
    from opacus.optimizers import optimizer

    def noised() -> nn.Module:
        with mock.patch.object(optimizer, "_generate_noise", whole_numbers):
            return step()

    return noised


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
def rates(
    steps: dict[str, Callable[[], Any]], seconds: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Examples per second of each, of the clock (medians over rounds in which all take turns) and
    of the processor (least time of all turns: another process' turn only adds)."""
    repeats = {}
    for name, step in steps.items():
        step()
        repeats[name] = max(1, round(0.02 / seconds_of(step)))
    found: dict[str, list[float]] = {name: [] for name in steps}
    least = dict.fromkeys(steps, float("inf"))
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(found["plain"]) < 5:
        for name, step in steps.items():
            start, worked = time.perf_counter(), time.process_time()
            for _ in range(repeats[name]):
                step()
            found[name].append(BATCH * repeats[name] / (time.perf_counter() - start))
            least[name] = min(least[name], (time.process_time() - worked) / repeats[name])
    by_clock = {name: statistics.median(values) for name, values in found.items()}
    return by_clock, {name: BATCH / value for name, value in least.items()}


def seconds_of(step: Callable[[], Any]) -> float:
    """Of one step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


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
    quickest = min(theirs, key=lambda mode: min(seconds_of(theirs[mode]) for _ in range(3)))
    steps[SAME_NOISE] = with_system_noise(opacus_step(case, quickest))
    steps["a client's own step"] = clients_step(case)
    steps["without noise"] = our_step(case, None, 0.0)
    quiet = {f"{mode} without noise": step for mode, step in opacus_steps(case, 0.0).items()}
    found, worked = rates({**steps, **theirs, **quiet}, seconds)
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
        *(Row(case.name, *ratio, "higher") for ratio in own_ratios(found, list(theirs))),
        *(
            Row(case.name, f"{name}, processor time", value, "higher")
            for name, value in own_ratios(worked, list(theirs))
        ),
    ]
    for name in list(levels)[1:]:
        rows.append(Row(case.name, f"example level / {name}", ours / found[name], "lower"))
    return rows


def own_ratios(found: dict[str, float], modes: list[str]) -> list[tuple[str, float]]:
    """A client's own step beside its peers."""
    own, name = found["a client's own step"], "a client's own step"
    return [
        (f"{name} / Opacus' fastest", own / max(found[mode] for mode in modes)),
        (f"{name} / {SAME_NOISE}", own / found[SAME_NOISE]),
        (f"{name} / plain", own / found["plain"]),
    ]


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
