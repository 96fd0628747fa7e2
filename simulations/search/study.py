"""What a search remembers, and its next guess: optuna behind an interface of our own.

The memory is ``study.jsonl``: optuna's journal in its file form, lines of JSON that are forced to
disk one by one (it pickles only for a Redis server, which is never used here). Each trial's sampler
is seeded by (seed, trial), so a search that was stopped goes on with the trials it would have had.

Tree-structured Parzen estimator: Bergstra et al. 2011, "Algorithms for Hyper-Parameter
Optimization".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from wardround.common.config.overrides import override_value
from wardround.common.figures.figure import Figure
from wardround.common.rng import derive_seed
from wardround.simulations.search.space import Choice, Range, Space
from wardround.simulations.search.values import toml_text

_JOURNAL, _NAME = "study.jsonl", "tune"
_STATUS = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Trial:
    """One run of a search.

    number : from 1
    status : 'running' (also one that was interrupted), 'complete', 'pruned', 'failed'
    score : the primary figure on validation rows, of the chosen round
    reason : why it has no score, in one line
    """

    number: int
    settings: dict[str, Any]
    status: str
    score: float | None = None
    round: int | None = None
    reason: str | None = None


class Study:
    """A search in its folder; opened again, it goes on. One process at a time.

    warmup : rounds in which no trial is pruned
    """

    def __init__(self, folder: Path, space: Space, seed: int, figure: Figure, warmup: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = folder / _JOURNAL
        _drop_torn_line(path)
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)  # of a process that was killed
        self._space, self._seed, self._figure = space, seed, figure
        self._storage = JournalStorage(JournalFileBackend(str(path)))
        self._pruner = optuna.pruners.MedianPruner(n_warmup_steps=warmup)
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=_NAME,
            direction="maximize" if figure.better == "higher" else "minimize",
            load_if_exists=True,
        )
        for one in self._study.trials:
            if one.state is TrialState.RUNNING and not self._is_whole(one):
                self._study.tell(one.number, state=TrialState.FAIL)

    @property
    def trials(self) -> list[Trial]:
        """All trials, in order."""
        return [self._trial(number, one) for number, one in enumerate(self._whole(), 1)]

    def ask(self) -> Trial:
        """A new trial, written down before it is returned."""
        number = len(self._whole()) + 1
        self._study.sampler = optuna.samplers.TPESampler(
            seed=derive_seed(self._seed, "tune", number) % 2**32, constant_liar=False
        )
        self._study.ask({key: _distribution(one) for key, one in self._space.items()})
        return self.trials[-1]

    def finish(self, trial: Trial, score: float, chosen_round: int | None) -> Trial:
        """Note the score of a running trial."""
        # the notes first: one that is told is over, and a crash in between would leave it without
        self._note(trial, "round", chosen_round)
        self._note(trial, "score", score)
        self._study.tell(self._frozen(trial).number, self._value(score))
        return self.trials[trial.number - 1]

    def fail(self, trial: Trial, reason: str, pruned: bool = False) -> Trial:
        """Note why a running trial has no score."""
        self._note(trial, "reason", reason)
        state = TrialState.PRUNED if pruned else TrialState.FAIL
        self._study.tell(self._frozen(trial).number, state=state)
        return self.trials[trial.number - 1]

    def is_hopeless(self, trial: Trial, server_round: int, score: float) -> bool:
        """Note a running trial's score after a round; True below the median of the others then."""
        key = self._key(trial)
        self._storage.set_trial_intermediate_value(key, server_round, self._value(score))
        return self._pruner.prune(self._study, self._storage.get_trial(key))

    # --- between optuna's trials and ours -----------------------------------------------------
    def _value(self, score: float) -> float:
        """What optuna is told of a score: in the study's direction, one way is always better."""
        return abs(score) if self._figure.better == "zero" else score

    def _is_whole(self, one: FrozenTrial) -> bool:
        """A trial that was killed while it was drawn up has only some settings: it never was."""
        return len(one.params) == len(self._space)

    def _whole(self) -> list[FrozenTrial]:
        return [one for one in self._study.trials if self._is_whole(one)]

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self._whole()[trial.number - 1]

    def _key(self, trial: Trial) -> int:
        study = self._storage.get_study_id_from_name(_NAME)
        number = self._frozen(trial).number
        return self._storage.get_trial_id_from_study_id_trial_number(study, number)

    def _note(self, trial: Trial, name: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._key(trial), name, value)

    def _trial(self, number: int, one: FrozenTrial) -> Trial:
        choice = {key for key, what in self._space.items() if isinstance(what, Choice)}
        settings = {k: override_value(v) if k in choice else v for k, v in one.params.items()}
        return Trial(
            number=number,
            settings={key: settings[key] for key in self._space},
            status=_STATUS[one.state],
            score=one.user_attrs.get("score") if one.state is TrialState.COMPLETE else None,
            round=one.user_attrs.get("round"),
            reason=one.user_attrs.get("reason"),
        )


def _distribution(one: Range | Choice) -> BaseDistribution:
    if isinstance(one, Choice):  # as TOML text: optuna takes no lists
        return CategoricalDistribution([toml_text(value) for value in one.values])
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log)
    return FloatDistribution(float(one.low), float(one.high), log=one.log)


def _drop_torn_line(path: Path) -> None:
    """Forget a last line that a crash left half written; optuna would refuse the next one."""
    if not path.exists():
        return
    with open(path, "r+b") as file:
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)
