"""Training by several processes: one process's result, failures that the next round survives, and
nothing left running."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, RecordDict
from torch import nn

from tests.client.small_models import Classes, configured, residual, rows, vector
from tests.provisioning import federation
from wardround.client.algorithms import ALGORITHMS, LocalAlgorithm
from wardround.client.data.hospital import Hospital, Place
from wardround.client.data.shard import OwnShard
from wardround.client.process.main import HospitalProcess
from wardround.client.requests.local import local_update
from wardround.client.site.kit import Kit
from wardround.client.state import ClientState
from wardround.client.training.distributed import TrainingProcesses
from wardround.client.training.replica import work
from wardround.client.training.settings import check_training
from wardround.client.training.teaching import beside
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, TaskError, WardroundError
from wardround.common.flower.arrays import encode_arrays
from wardround.common.model.named import build_model, model_arrays
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.train import TrainRequest
from wardround.common.secagg.content import descriptor
from wardround.common.tasks.base import Examples
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision

TASK = '''
import torch
from torch import nn
from tests.client.small_models import Classes, residual, rows

class Partial(nn.Module):
    """One layer is frozen, one is for rows that begin above 1, one is never used."""

    def __init__(self):
        super().__init__()
        self.first, self.rare, self.never = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.last = nn.Linear(6, 3)
        self.first.requires_grad_(False)

    def forward(self, x):
        y = torch.relu(self.first(x))
        if (x[:, 0] > 1).any():
            y = y + self.rare(x) * (x[:, :1] > 1)
        return self.last(y)

class Nets(Classes):
    def __init__(self, model="residual"):
        self.kind = model

    def load(self, path):
        return rows()

    def model(self, totals):
        if self.kind == "fails":
            raise ValueError("a cell of a patient")
        if self.kind == "partial":
            return Partial()
        return residual(2, dropout=0.5 if self.kind == "dropout" else 0.0)
'''
PRIVATE = "[privacy]\nunit = '{}'\nnoise = 'local'\nnoise_multiplier = 1.0\n"


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Hospital]]:
    """A hospital as its process makes it: hospital(training, model); closed afterwards.

    Its processes are forks of one that has imported torch, which each would take seconds for; they
    are begun as they are in use in the test of how they end, by a program of its own."""
    forks = torch.multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload([work.__module__, "torch._dynamo", "tests.client.small_models"])
    monkeypatch.setattr(torch.multiprocessing, "get_context", lambda method: forks)
    (tmp_path / "nets.py").write_text(TASK)
    made: list[Hospital] = []

    def make(training: str = "", model: str = "residual", processes: int = 2) -> Hospital:
        text = (
            f"[federation]\nseed = 7\n[data]\ntest_fraction = 0.0\n"
            f"[task]\nname = '{tmp_path}/nets.py:Nets'\nmodel = '{model}'\n"
            f"[training]\nbatch_size = 11\nlr = 0.1\nprocesses = {processes}\n{training}"
        )
        config = parse_config(text)
        task = make_task(config)
        check_training(config, task)
        group = TrainingProcesses(config) if processes > 1 else None
        shard = OwnShard("a", task, config, lambda: task.load(None))
        made.append(Hospital(shard, place=Place(processes=group)))
        return made[-1]

    yield make
    for one in made:
        if one.processes is not None:
            one.processes.close()


@cache
def taught(hospital: Hospital) -> Examples:
    """What it trains on, beside scores of a teacher if there is one."""
    part = hospital.examples({}, "none")["train"]
    theirs = torch.randn(len(part), 3, generator=torch.Generator().manual_seed(3))
    return part if hospital.config.teacher is None else beside(hospital.task, part, theirs)


def trained(hospital: Hospital, number: int = 1, name: str = "plain") -> tuple[Any, nn.Module]:
    """One round from the initial model: outcome and model."""
    model = build_model(hospital.task, {}, 7)
    parameters = {k: p for k, p in model.named_parameters() if p.requires_grad}
    control = {k: torch.full_like(p, 0.05).numpy() for k, p in parameters.items()}
    request = TrainRequest(
        SentModel(ArrayRecord(), number, number - 1),
        strategy={"proximal-mu": 0.3},
        records={"control": encode_arrays(control)},
    )
    algorithm: LocalAlgorithm = ALGORITHMS[name](
        dict(parameters), request, ClientState(RecordDict())
    )
    part = taught(hospital)
    done = local_update(hospital, model, part, model_arrays(model), algorithm, None)
    return done.outcome, model


def pids(hospital: Hospital) -> list[int]:
    assert hospital.processes is not None and hospital.processes._team is not None
    return [process.pid or 0 for process in hospital.processes._team._processes]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def until(condition: Callable[[], bool], limit_s: float = 20.0) -> bool:
    end = time.monotonic() + limit_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


ADAM = "optimizer = 'adamw'\nmax_grad_norm = 0.5\nweight_decay = 0.1\nlocal_epochs = 2\n"
TEACHER = f"[teacher]\nmodel_digest = '{'0' * 64}'\nweight = 0.7\n"
PIECES = "micro_batch_size = 2\ndistillation = 0.5\ncheckpoint_activations = true\n"


@pytest.mark.parametrize(
    ("training", "model", "algorithm"),
    [
        (TEACHER, "partial", "scaffold"),  # 23 rows in batches of 11, 11 and 1: a process has none
        (ADAM + PIECES, "residual", "plain"),
    ],
)
def test_the_result_is_one_processs(hospital, training, model, algorithm) -> None:
    several, single = hospital(training, model), hospital(training, model, processes=1)
    for number in (1, 2):  # the processes stay
        found, theirs = trained(several, number, algorithm)
        expected, ours = trained(single, number, algorithm)
        torch.testing.assert_close(vector(theirs), vector(ours), rtol=1e-6, atol=1e-6)
        assert not torch.equal(vector(ours), vector(build_model(single.task, {}, 7)))
        assert (found.steps, found.lr) == (expected.steps, expected.lr)
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert len(set(pids(several))) == 2


def test_dropout_is_another_draw_and_a_lost_process_costs_one_round(hospital) -> None:
    site = hospital("", "dropout")
    outcome, model = trained(site)
    assert math.isfinite(outcome.loss)
    assert torch.equal(vector(trained(site)[1]), vector(model))  # the round again, the same draws
    assert not torch.equal(vector(trained(site, 2)[1]), vector(model))
    first = pids(site)
    os.kill(first[1], signal.SIGKILL)
    with pytest.raises(WardroundError, match="training process 1 of 2 ended by signal 9; the next"):
        trained(site)
    assert not any(alive(pid) for pid in first)
    assert torch.equal(vector(trained(site)[1]), vector(model))
    folder, second = Path(site.processes._team._folder), pids(site)
    assert folder.stat().st_mode & 0o777 == 0o700 and not set(first) & set(second)
    site.processes.close()
    assert not any(alive(pid) for pid in second) and not folder.exists()


def listening(pid: int) -> list[str]:
    """Addresses, in hex, at which a process takes connections."""
    inodes = {os.readlink(f)[8:-1] for f in Path(f"/proc/{pid}/fd").iterdir()}
    lines = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    fields = [line.split() for line in lines.splitlines()]
    return [f[1].partition(":")[0] for f in fields if f[3] == "0A" and f[9] in inodes]


def test_a_process_lost_in_the_middle_of_a_round_is_told_and_nobody_else_can_connect(
    hospital,
) -> None:
    site, told = hospital("local_steps = 1000000"), []

    def train() -> None:
        try:
            trained(site)
        except WardroundError as error:
            told.append(str(error))

    thread = threading.Thread(target=train)
    thread.start()
    try:
        assert until(lambda: site.processes._team is not None)
        running = pids(site)
        addresses = [address for pid in running for address in listening(pid)]
        assert addresses and set(addresses) <= {"0100007F", "0" * 24 + "01000000"}  # loopback
        time.sleep(0.2)
        os.kill(running[0], signal.SIGKILL)
        thread.join(20)
    finally:  # or a million steps would be taken beside all other tests
        site.processes.close()
    assert told == ["training process 0 of 2 ended by signal 9; the next round starts them again"]
    assert not any(alive(pid) for pid in running)


HOLD = """
import sys, os, time
from pathlib import Path
from tests.client.training import test_distributed as tests
from wardround.client.training.distributed import TrainingProcesses
from wardround.client.data.hospital import Hospital, Place
from wardround.client.data.shard import OwnShard
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
if __name__ == "__main__":
    config = parse_config(
        f"[data]\\ntest_fraction = 0.0\\n[task]\\nname = '{sys.argv[1]}:Nets'\\n"
        "[training]\\nprocesses = 2\\nlocal_steps = 1000000\\n"
    )
    task = make_task(config)
    place = Place(processes=TrainingProcesses(config))
    site = Hospital(OwnShard("a", task, config, lambda: task.load(None)), place=place)
    import threading
    threading.Thread(target=tests.trained, args=(site,), daemon=True).start()
    while site.processes._team is None:
        time.sleep(0.05)
    print(*tests.pids(site), site.processes._team._folder, flush=True)
    time.sleep(1)
    print("busy", flush=True)
    time.sleep(60)
"""


def test_they_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Killed in the middle of a round, so that it can do nothing about it."""
    (tmp_path / "nets.py").write_text(TASK)
    (tmp_path / "hold.py").write_text(HOLD)
    root = Path(__file__).parent.parent.parent.parent
    command = [sys.executable, str(tmp_path / "hold.py"), str(tmp_path / "nets.py")]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        first, second, folder = process.stdout.readline().split()
        assert process.stdout.readline() == "busy\n"
        assert alive(int(first)) and alive(int(second)) and Path(folder).is_dir()
        process.kill()
    assert until(lambda: not alive(int(first)) and not alive(int(second)))
    assert not Path(folder).exists()


# --- what can't be done ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "training.processes: 2 processes take a GPU each, and torch sees 0 here"),
        (PRIVATE.format("example"), "with privacy.unit = 'example' each unit's gradient"),
        (PRIVATE.format("patient"), "with privacy.unit = 'patient' each unit's gradient"),
    ],
)
def test_settings_that_are_refused(text: str, message: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = parse_config(f"[training]\nprocesses = 2\ndevice = 'cuda'\n{text}")
    with pytest.raises(ConfigError, match=message):
        check_training(config, Classes())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_training(config, Classes(), simulated=True)
    if not text:
        check_training(config, Classes())


def test_a_hospitals_process_takes_it_from_site_toml(tmp_path: Path) -> None:
    kit = provision.provision(federation(tmp_path), now=now_utc()).kits[0]
    site = kit / "site.toml"
    for line, expected in (("", 1), ("processes = 2\n", 2)):
        site.write_text(line + site.read_text())
        process = HospitalProcess(Kit.open(kit), None)
        assert process.own.place.work.hospital.config.training.processes == expected
        assert (process.own.place.work.hospital.processes is None) == (expected == 1)
        process.close()


def test_tasks_and_devices_that_are_refused() -> None:
    class Coupled(Classes):
        coupled_examples = True

    for device, task, message in [
        ("cpu", Coupled(), "this task's loss of one row depends on the others"),
        ("cuda:1", Classes(), "2 processes take the GPUs from 0 on"),
        ("mps", Classes(), "processes don't share training.device = 'mps'"),
    ]:
        with pytest.raises(ConfigError, match=f"training.processes: {message}"):
            check_training(configured(processes=2, device=device), task)
    check_training(configured(processes=64), Classes())
    check_training(
        parse_config("[training]\nprocesses = 2\n" + PRIVATE.format("hospital")), Classes()
    )


def test_a_task_given_as_an_object_is_refused_and_a_simulation_has_one_process() -> None:
    class Given(Classes):
        def load(self, path: Any) -> Any:
            return rows()

        def model(self, totals: Any) -> nn.Module:
            return residual()

    def site(simulated: bool) -> Hospital:
        config = parse_config("[data]\ntest_fraction = 0.0\n[training]\nprocesses = 2\n")
        return Hospital(OwnShard("a", Given(), config, rows), place=Place(simulated=simulated))

    with pytest.raises(TaskError, match="training.processes = 2: each process makes the task"):
        trained(site(False))
    assert math.isfinite(trained(site(True))[0].loss)


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm1d(6), nn.InstanceNorm1d(6, track_running_stats=True)]
)
def test_statistics_of_a_share_are_refused_before_anything_starts(hospital, layer) -> None:
    site = hospital()
    processes, model = site.processes, nn.Sequential(layer, nn.Linear(6, 3))
    with pytest.raises(TaskError, match=f"training.processes: layer '0' .{type(layer).__name__}."):
        processes.train(model, site.task, rows(), {}, LocalAlgorithm, (1, 1, "a"))
    assert processes._team is None


def test_an_error_in_a_process_is_told_without_its_text(hospital, monkeypatch) -> None:
    site = hospital("", "fails")
    monkeypatch.setattr(site.task, "kind", "residual")  # only here does the model get built
    with pytest.raises(TaskError, match=r"training process \d: ValueError at nets.py:\d+$"):
        trained(site)
    assert site.processes._team is None


def test_it_is_each_hospitals_own(hospital) -> None:
    assert descriptor(configured(processes=4)) == descriptor(configured())
    for number in (0, 65):
        with pytest.raises(ConfigError, match="training.processes"):
            parse_config(f"[training]\nprocesses = {number}\n")
