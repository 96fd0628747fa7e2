"""The package of a complete run: made once in its directory, signed, whole after any crash.

    RUN/results/
        files.json                    what there is, signed by the server
        curves.json                   curves and intervals of the chosen model's figures
        model/                        the model folder, as the run's server signed it
        config.toml  plan.json  run.json  metrics.jsonl  report.html
        study.signed                  of a network's study: what was asked, by whom

A blind run's has no model: hospitals have it.
A procedure other than training has what it publishes (``description.json``) in place of model and
rounds. All but these and the plan is made anew from what may be shown (``shared.py``), the report
too.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from wardround.common.config.load import load_config
from wardround.common.durable.files import sync, write_atomically, writing
from wardround.common.errors import ResultsRefused
from wardround.common.model_folder.listed import Listed
from wardround.common.model_folder.listed import read_list as read_model_list
from wardround.common.results.package import FILES, Package, listed, read_list
from wardround.common.run.curves import FILE as CURVES
from wardround.common.run.directory import RunDirectory
from wardround.common.run.report.from_run import report_run
from wardround.common.run.sums import read_kept
from wardround.common.text import to_json
from wardround.common.trust.description import shared_toml
from wardround.common.trust.identity import Identity
from wardround.server.results.shared import (
    shared_answers,
    shared_curves,
    shared_rounds,
    shared_summary,
)

FOLDER = "results"
"""In a run directory."""
_MAKING = ".results.making"
_FOLDER_OF_MODEL, _PLAN, _STUDY = "model", "plan.json", "study.signed"
_COMPLETE = "complete"


def make_package(
    run: RunDirectory,
    identity: Identity,
    *,
    network: str,
    study: str = "",
    signed_study: bytes = b"",
) -> Path:
    """The folder with a run's package; made, if there is none yet.

    Parameters
    ----------
    identity : the server's
    network : the federation's name
    study, signed_study : its id, and what was asked; '' and b'' in a federation that is one study

    Raises ResultsRefused if the run isn't complete, or lacks a file; RunDirectoryError where the
    disk is full or can't be written.
    """
    target = run.path / FOLDER
    if target.is_dir():
        return target
    summary = run.summary()
    if summary.get("status") != _COMPLETE:
        raise ResultsRefused("only a run that is complete has results", who=str(run.path))
    making = run.path / _MAKING
    with writing(run.path, "the results are made when the server is started again"):
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        _fill(making, run, signed_study)
        package = Package(
            network=network,
            study=study,
            run=run.path.name,
            round=int(summary.get("chosen_round", 0)),
            files=tuple(listed(making, name) for name in _names(making)),
        )
        signed = package.signed(identity)
        Package.read(signed, identity.public)  # what no one could read is not made
        write_atomically(making / FILES, signed)
        os.rename(making, target)
        sync(run.path)
    return target


def package_of(folder: Path, server_public: bytes) -> Package:
    """The package in a folder of ``make_package``. Raises ResultsRefused."""
    return Package.read(read_list(folder), server_public)


def _names(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def _fill(making: Path, run: RunDirectory, signed_study: bytes) -> None:
    summary, rounds = run.summary(), run.rounds()
    shown = shared_rounds(rounds, int(summary.get("chosen_round", 0)))
    config = load_config(run.config_path)
    asked = "procedure" in summary
    answers = shared_answers(summary, config.secure_aggregation.enabled) if asked else []
    told = shared_summary(summary, rounds, shown, bool(answers) or not asked)
    if asked:
        told["published"] = answers  # the report is made of these
    texts = {"run.json": to_json(told, indent=2), "config.toml": shared_toml(config)}
    if asked:
        for name in answers:
            _take(run.path / name, making / name)
    else:
        if not config.secure_aggregation.blind:
            model = making / _FOLDER_OF_MODEL
            model.mkdir()
            for name in _of_the_model(run):
                _take(run.model / name, model / name)
            sync(model)
        if (curves := shared_curves(read_kept(run), rounds, shown)) is not None:
            texts[CURVES] = to_json(curves)
        texts["metrics.jsonl"] = "".join(to_json(row) + "\n" for row in shown)
    _take(run.path / _PLAN, making / _PLAN)
    for name, text in texts.items():
        write_atomically(making / name, text.encode())
    if signed_study:
        write_atomically(making / _STUDY, signed_study)
    begun = run.config_path.stat().st_mtime  # the report says when the run began
    os.utime(making / "config.toml", (begun, begun))
    report_run(RunDirectory(making))


def _of_the_model(run: RunDirectory) -> list[str]:
    """Files of the model folder that all may have. Raises ModelRefused where it isn't whole."""
    listed = Listed.read(read_model_list(run.model), str(run.model))
    listed.check_files(run.model)
    return [FILES, *(one.name for one in listed.files)]


def _take(source: Path, target: Path) -> None:
    """The same file under another name, or a copy; it is never written again."""
    if not source.is_file():
        raise ResultsRefused(f"its '{source.name}' is not there", who=str(source.parent))
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        sync(target)
