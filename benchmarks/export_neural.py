"""Exports in 32 and in 8 bits beside the model that they were made of: size, speed, figures.

    python -m benchmarks.export_neural [--quick] [--ner] [--json PATH]

An MLP of the breast cancer data (64-32) and the network of ``examples/pneumonia`` are trained by
the federation and exported; with ``--ner`` also MiniLM with adapters on two corpora
(``benchmarks.ner``). Figures are had over the hospitals, of the rows that they hold out, by
``[procedure] name = "evaluate"``: of the model, of its float graph, and of that in 8 bits. Speed is
the float graph's time over the other's (``export.json``), on one thread. ``limit``: a quarter of
the size; a loss of .005 AUC, .01 F1. ``--quick``: few rounds, with which little is learned.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.flamby_data import data_folder
from benchmarks.ner import BASE, CORPORA, FULL, LR, QUICK, write_sample
from benchmarks.pneumonia import EXAMPLE
from benchmarks.report import Row, emit
from wardround.common.config.load import load_config, parse_config
from wardround.common.export.exporting import export_model
from wardround.common.export.int8_scores import Wanted
from wardround.common.export.source import Source
from wardround.common.model_folder.folder import ModelFolder
from wardround.simulations import analyse, simulate

PLAIN = ["secure_aggregation.enabled=false", "simulation.baselines=false"]
MOST_LOST = {"auc": 0.005, "f1": 0.01}


@dataclass(frozen=True)
class Study:
    """What is trained.

    file : its settings; None: those of ``text``
    data : where rows with outcomes lie on which 8 bits are tried; None: the task's own
    figure : that must not get worse
    """

    name: str
    sets: list[str]
    figure: str
    text: str = ""
    file: Path | None = None
    data: Path | None = None

    def config(self, *more: str) -> Any:
        """Its settings, with further ones."""
        sets = [*PLAIN, *self.sets, *more]
        return load_config(self.file, sets) if self.file else parse_config(self.text, sets)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--ner", action="store_true", help="entities too: minutes")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="export-neural-") as name:
        for study in studies(Path(name), options.quick, options.ner):
            rows += compared(study, Path(name) / study.name.replace(" ", "-"))
    emit("Exports beside their model, over the hospitals", rows, options.json)


def studies(place: Path, quick: bool, ner: bool) -> Iterator[Study]:
    """What is trained, one after the other."""
    mlp = ['task.model={ kind = "mlp", norm = "layer" }', "training.lr=0.05"]
    yield Study("table MLP 64-32", [*mlp, f"federation.rounds={3 if quick else 20}"], "auc")
    images = data_folder("pneumoniamnist") / "pneumoniamnist.npz"
    sets = [f"data.path={images.resolve()}", *(["federation.rounds=3"] if quick else [])]
    yield Study("pneumonia CNN", sets, "auc", file=EXAMPLE / "federation.toml", data=images)
    if ner:
        size, own = QUICK if quick else FULL, place / "corpora"
        for corpus in CORPORA:
            write_sample(data_folder("bio_ner") / corpus, own / corpus, size)
        sets = [f'data.path="{own}"', "task.tuning=lora", f"training.lr={LR['lora']}"]
        sets.append(f"federation.rounds={size.rounds}")
        yield Study("NER MiniLM LoRA", sets, "f1", text=BASE, data=own / CORPORA[0])


def compared(study: Study, place: Path) -> list[Row]:
    """Size, speed and the figure of one study's model and of its exports."""
    run = simulate(study.config(f'federation.runs="{place}/runs"')).run_directory
    source = Source.of(ModelFolder.open(run))
    rows = source.task.load(study.data)
    whole = export_model(source, place / "float")
    # whatever it loses is shown here: nothing is refused
    small = export_model(source, place / "int8", int8=Wanted(rows, tolerance=1.0))
    assert small.info.int8 is not None
    found = {
        name: figure(study, path, place / f"of-{name}")
        for name, path in (("model", run), ("float", whole.path), ("int8", small.path))
    }
    sizes = [(one.path / one.info.graph).stat().st_size / 1000 for one in (whole, small)]
    peers: dict[str, float | None] = {"the model": found["model"], "float": found["float"]}
    least, case = found["model"] - MOST_LOST[study.figure], f"{study.name}, int8"
    return [
        Row(case, "kB", sizes[1], "lower", {"float": sizes[0]}, sizes[0] / 4),
        Row(case, f"speed ({small.info.int8.method})", small.info.int8.speed, "higher"),
        Row(case, "speed of one row", small.info.int8.speed_alone, "higher"),
        Row(case, study.figure, found["int8"], "higher", peers, least),
    ]


def figure(study: Study, model: Path, runs: Path) -> float:
    """The study's figure of a model or an export, over its hospitals."""
    asked = ('procedure.name="evaluate"', f"procedure.model={json.dumps(str(model))}")
    found = analyse(study.config(*asked, f'federation.runs="{runs}"'))
    return float(found.published["evaluation.json"]["figures"][study.figure])


if __name__ == "__main__":
    main()
