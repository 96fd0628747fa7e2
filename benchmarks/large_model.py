"""A round of a BERT of 109 M parameters, all of them trained, between processes on loopback.

    python -m benchmarks.large_model [--quick] [--json PATH]

One server and three hospitals with mutual TLS; sequence classification by a BERT-base of random
weights, one step of SGD on four texts a round. In plain and with secure aggregation; ``--quick``: a
BERT of 5 M. A round includes the forward and backward passes of all three, on the same cores.

memory           the most that one process has above what it had before it met the others: with it
                 transformers, which is loaded then (some 400 MB), gradients and activations
of the model     memory in copies of the model (4 bytes a parameter)
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.deployment import START_S, WARDROUND, note_commits
from benchmarks.deployment_processes import MemoryWatch, Processes, free_port
from benchmarks.report import Row, arguments, emit

ROUNDS, HOSPITALS = 3, ("north", "south", "west")
WORDS = "fever cough pain none acute chronic left right mild severe".split()


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    width, layers = (128, 4) if options.quick else (768, 12)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        parameters = make_encoder(Path(name) / "bert", width, layers)
        model_mb = 4 * parameters / 1e6
        for secure in (False, True):
            folder = Path(name) / ("secure" if secure else "plain")
            folder.mkdir()
            figures = measure(folder, Path(name) / "bert", secure)
            case = f"{parameters / 1e6:.1f} M parameters, {folder.name}"
            rows.append(Row(case, "s per round", figures["seconds"], "lower"))
            for what in ("down", "up"):
                copies = figures[what] / (4 * parameters)
                rows.append(Row(case, f"bytes {what} a hospital, of the model", copies, "lower"))
            for who in ("server", "hospital"):
                rows.append(Row(case, f"{who} memory, MB", figures[who], "lower"))
                rows.append(
                    Row(case, f"{who} memory, of the model", figures[who] / model_mb, "lower")
                )
    emit("A large model, trained in full", rows, options.json)


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


def measure(folder: Path, encoder: Path, secure: bool) -> dict[str, float]:
    """Seconds of a round (median without the first), bytes of a hospital, peak memory in MB."""
    config = configure(folder, encoder, secure)
    with Processes(folder) as processes:
        provision = processes.start("provision", [*WARDROUND, "provision", str(config)])
        processes.wait_for("provision", lambda: provision.poll() is not None, START_S)
        server = processes.start("server", [*WARDROUND, "server", str(config)])
        processes.wait_for("server", lambda: "waiting for" in processes.log("server"), START_S)
        hospitals = [start(processes, folder, encoder, name, secure) for name in HOSPITALS]
        watches = {"server": MemoryWatch(lambda: [server.pid])}
        watches["hospital"] = MemoryWatch(lambda: [hospitals[0].pid])
        for watch in watches.values():
            watch.begin()
        committed: dict[int, float] = {}

        def is_over() -> bool:
            note_commits(folder, committed)
            stopped = any(one.poll() is not None for one in [server, *hospitals])
            return stopped or ROUNDS + 1 in committed

        processes.wait_for("server", is_over, 900)
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


def configure(folder: Path, encoder: Path, secure: bool) -> Path:
    """``federation.toml`` and a shard."""
    port, path = free_port(), folder / "federation.toml"
    texts = [f"{WORDS[n % 10]} {WORDS[n % 7]},{('absent', 'present')[n % 2]}" for n in range(8)]
    (folder / "notes.csv").write_text("\n".join(["text,label", *texts]) + "\n")
    path.write_text(
        f"[federation]\nname = 'benchmark'\nrounds = {ROUNDS + 1}\nmin_clients = 3\n"
        "round_attempts = 1\n[data]\ntest_fraction = 0.25\n[evaluation]\nevery = 100\n"
        f"[task]\nname = 'text'\nkind = 'sequence'\ntuning = 'full'\nencoder = '{encoder}'\n"
        "max_length = 16\n[training]\nlr = 0.001\nbatch_size = 4\nlocal_steps = 1\n"
        f"[secure_aggregation]\nenabled = {str(secure).lower()}\n"
        f"[server]\naddress = 'localhost:{port}'\nlisten = '127.0.0.1:{port}'\n"
        f"hospitals = {list(HOSPITALS)}\n"
    )
    return path


def start(processes: Processes, folder: Path, encoder: Path, name: str, secure: bool) -> Any:
    """A hospital's process, with its own copy of the encoder."""
    kit = folder / "provision" / "kits" / name
    (kit / "site.toml").write_text(
        f"federations = ['benchmark']\nencoder = '{encoder}'\n"
        f"require_secure_aggregation = {str(secure).lower()}\n"
    )
    command = [*WARDROUND, "client", str(kit), "--data", str(folder / "notes.csv")]
    return processes.start(name, command)


def lines(folder: Path) -> Iterator[dict[str, Any]]:
    """The rounds of the run."""
    (path,) = folder.glob("runs/*/metrics.jsonl")
    for line in path.read_text().splitlines():
        yield json.loads(line)


if __name__ == "__main__":
    main()
