"""Rounds of large models between processes on loopback: memory of both ends, and time.

    python -m benchmarks.large_model [--quick] [--json PATH]

One server and three hospitals with mutual TLS, in plain and with secure aggregation:

bert       a BERT-base of random weights (109 M of float32), all of it trained: one step of SGD on
           four texts a round (``--quick``: a BERT of 5 M)
bfloat16   500 M random numbers of bfloat16, every one moved at random in one step
           (``--quick``: 80 M)

Then, without hospitals, how a server takes two updates of 1.5 G numbers of bfloat16 that lie in its
spool (``large_model_server.py``), where 2 GB of memory is all that it gets (``--quick``: 100 M).

A round includes the forward and backward passes of all three, on the same cores. Its peer is the
bare stream: as many bytes to and fro over gRPC with mutual TLS and nothing else.

memory           the most that a process has above what it has begun with, imports included
of the model     memory in copies of the model (2 or 4 bytes a parameter)
beside           of a hospital: without weights, gradients and what the imports alone take
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import large_model_server
from benchmarks.deployment import START_S, WARDROUND, note_commits
from benchmarks.deployment_bare import bare_rounds
from benchmarks.deployment_processes import MemoryWatch, Processes, free_port
from benchmarks.report import Row, arguments, emit

ROUNDS, HOSPITALS = 3, ("north", "south", "west")
WORDS = "fever cough pain none acute chronic left right mild severe".split()
TASK_FILE = Path(__file__).with_name("deployment_task.py")
IMPORTS = "import transformers, wardround.client.process.main, wardround.common.tasks.text"
GOALS = {"server": 2.5, "beside": 1.2}
"""In models; the server has 150 MB more."""
SERVER_MB = 150.0


class Model(NamedTuple):
    """What is trained.

    parameters : that travel, of ``bytes`` each
    task : lines of ``[task]`` and ``[training]``
    site : lines of each hospital's site.toml
    data : what a hospital's client is started with
    """

    name: str
    parameters: int
    bytes: int
    task: str
    site: str
    data: tuple[str, ...]

    @property
    def size_mb(self) -> float:
        """Of a copy."""
        return self.parameters * self.bytes / 1e6


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        imports_mb = imported_mb()
        for model in (bert(Path(name), options.quick), random_numbers(options.quick)):
            stream = Path(name) / "bare"
            stream.mkdir(exist_ok=True)
            seconds, _ = bare_rounds(stream, len(HOSPITALS), model.parameters * model.bytes // 4, 3)
            for secure in (False, True):
                folder = Path(name) / f"{model.name}-{secure}"
                folder.mkdir()
                figures = measure(folder, model, secure)
                rows += rows_of(model, secure, figures, imports_mb, statistics.median(seconds))
    rows += large_model_server.rows(100_000_000 if options.quick else 1_500_000_000)
    emit("Large models", rows, options.json)


def rows_of(
    model: Model, secure: bool, figures: dict[str, float], imports_mb: float, bare_s: float
) -> list[Row]:
    """The figures of one case."""
    case = f"{model.parameters / 1e6:.1f} M of {model.name}, {'masked' if secure else 'plain'}"
    size, found = model.size_mb, []
    found.append(Row(case, "s per round", figures["seconds"], "lower", {"bare": bare_s}))
    for what in ("down", "up"):
        copies = figures[what] / 1e6 / size
        found.append(Row(case, f"bytes {what} a hospital, of the model", copies, "lower"))
    for who in ("server", "hospital"):
        found.append(Row(case, f"{who} memory, MB", figures[who], "lower"))
    most = GOALS["server"] + SERVER_MB / size
    server = figures["server"] / size
    found.append(Row(case, "server memory, of the model", server, "lower", limit=most))
    beside = (figures["hospital"] - imports_mb) / size - 2.0  # weights and gradients
    goal = GOALS["beside"]
    found.append(Row(case, "hospital's memory beside, of the model", beside, "lower", limit=goal))
    return found


def imported_mb() -> float:
    """Memory of a process that does nothing but import what a hospital's does."""
    code = f"{IMPORTS}\nprint(open('/proc/self/status').read())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    line = next(line for line in told.stdout.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def random_numbers(quick: bool) -> Model:
    """Numbers of bfloat16, moved at random."""
    parameters, task = 80_000_000 if quick else 500_000_000, f"{TASK_FILE}:RandomUpdates"
    site = f"[task_files]\n'{TASK_FILE.name}:RandomUpdates' = '{TASK_FILE}'\n"
    told = f"[task]\nname = '{task}'\nparameters = {parameters}\nnarrow = true\n"
    told += "[training]\nlr = 0.01\nlocal_steps = 1\n"
    return Model("bfloat16", parameters, 2, told, site, ("--example-data",))


def bert(folder: Path, quick: bool) -> Model:
    """A BERT of random weights, and texts to train it on."""
    encoder, notes = folder / "bert", folder / "notes.csv"
    width, layers = (128, 4) if quick else (768, 12)
    parameters = make_encoder(encoder, width, layers)
    texts = [f"{WORDS[n % 10]} {WORDS[n % 7]},{('absent', 'present')[n % 2]}" for n in range(8)]
    notes.write_text("\n".join(["text,label", *texts]) + "\n")
    task = (
        "[task]\nname = 'text'\nkind = 'sequence'\ntuning = 'full'\n"
        f"encoder = '{encoder}'\nmax_length = 16\n"
        "[training]\nlr = 0.001\nbatch_size = 4\nlocal_steps = 1\n"
    )
    site = f"encoder = '{encoder}'\n"
    return Model("bert", parameters, 4, task, site, ("--data", str(notes)))


def make_encoder(folder: Path, width: int, layers: int) -> int:
    """A BERT of random weights in Hugging Face's layout; how many parameters travel."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
    )
    model = BertModel(config, add_pooling_layer=False)
    model.save_pretrained(folder)
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return sum(p.numel() for p in model.parameters()) + width + 1


def measure(folder: Path, model: Model, secure: bool) -> dict[str, float]:
    """Seconds of a round (median without the first), bytes of a hospital, peak memory in MB."""
    config = configure(folder, model, secure)
    with Processes(folder) as processes:
        provision = processes.start("provision", [*WARDROUND, "provision", str(config)])
        processes.wait_for("provision", lambda: provision.poll() is not None, START_S)
        server = processes.start("server", [*WARDROUND, "server", str(config)])
        processes.wait_for("server", lambda: "waiting for" in processes.log("server"), START_S)
        hospitals = [start(processes, folder, model, name, secure) for name in HOSPITALS]
        watches = {"server": MemoryWatch(lambda: [server.pid])}
        watches["hospital"] = MemoryWatch(lambda: [hospitals[0].pid])
        for watch in watches.values():
            watch.begin()
        committed: dict[int, float] = {}

        def is_over() -> bool:
            note_commits(folder, committed)
            stopped = any(one.poll() is not None for one in [server, *hospitals])
            return stopped or ROUNDS + 1 in committed

        processes.wait_for("server", is_over, 1800)
        memory = {name: watch.above_base_mb() for name, watch in watches.items()}
        if ROUNDS + 1 not in committed:
            logs = [processes.log(name)[-1500:] for name in ("server", HOSPITALS[0])]
            raise RuntimeError("it failed:\n" + "\n".join(logs))
    times = [committed[n] for n in range(1, ROUNDS + 2) if n in committed]
    row = list(lines(folder))[-2]  # the last round evaluates, too
    return {
        "seconds": statistics.median(b - a for a, b in zip(times, times[1:], strict=False)),
        "down": row["bytes_down"] / len(HOSPITALS),
        "up": row["bytes_up"] / len(HOSPITALS),
        **memory,
    }


def configure(folder: Path, model: Model, secure: bool) -> Path:
    """``federation.toml``."""
    port, path = free_port(), folder / "federation.toml"
    path.write_text(
        f"[federation]\nname = 'benchmark'\nrounds = {ROUNDS + 1}\nmin_clients = 3\n"
        "round_attempts = 1\n[data]\ntest_fraction = 0.25\n[evaluation]\nevery = 100\n"
        f"{model.task}[secure_aggregation]\nenabled = {str(secure).lower()}\n"
        f"[server]\naddress = 'localhost:{port}'\nlisten = '127.0.0.1:{port}'\n"
        f"hospitals = {list(HOSPITALS)}\n"
    )
    return path


def start(processes: Processes, folder: Path, model: Model, name: str, secure: bool) -> Any:
    """A hospital's process."""
    kit = folder / "provision" / "kits" / name
    (kit / "site.toml").write_text(
        "federations = ['benchmark']\n"
        f"require_secure_aggregation = {str(secure).lower()}\n{model.site}"
    )
    return processes.start(name, [*WARDROUND, "client", str(kit), *model.data])


def lines(folder: Path) -> Iterator[dict[str, Any]]:
    """The rounds of the run."""
    (path,) = folder.glob("runs/*/metrics.jsonl")
    for line in path.read_text().splitlines():
        yield json.loads(line)


if __name__ == "__main__":
    main()
