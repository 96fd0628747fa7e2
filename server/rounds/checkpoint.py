"""Checkpoints: a round counts once its file is on disk; whatever came before is repeated.

``round-0007.safetensors`` holds the model, the strategy's state, the federation's totals, the
round each client was last accepted in, and the figure sums of the best and the newest evaluated
model. The newest two and the best are kept. No generator state is stored: every draw derives from
(seed, purpose, round).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wardround.common.compression.scales import Scales
from wardround.common.durable.tensors import read_tensors, write_tensors
from wardround.common.durable.versioned import Format
from wardround.common.errors import CheckpointError
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays, encoded_view
from wardround.common.run.sums import KeptSums, by_round
from wardround.common.secagg.messages import Blind

FORMAT = Format("checkpoint", "remove it to go on from an older one")
_PATTERN = re.compile(r"^round-(\d+)\.safetensors$")
_KEEP = 2


class _OfAnotherVersion(CheckpointError):
    """A whole checkpoint that can't be read here. It isn't passed over as a torn one is: the run
    would go back to an older round and forget this one."""


@dataclass
class FederationState:
    """What the coordinator must not lose. ``round`` is the last committed one (0: initial).

    model : the shared entries: personal ones are their hospitals', frozen ones each party makes
    accepted : by hospital, the round whose state it has that counts
    clipping_norm : of the next round, in a private run
    frozen : digest of the frozen entries that a party makes; '' where there are none
    best_over : digest of whose rows the best value is over
    not_better : evaluations since the best round
    spent : hospitals whose privacy budget was spent by then
    largest_weight : what a hospital's update counts for at most in a masked sum; fixed with the
        run's first model, as hospitals accept it with the plan. 0 in files of before
    first_model : digest (hexadecimal) of the shared arrays of round 0; '' in files of before
    ready : of a buffered run, by hospital: the version that a kept update was trained on, and when
        it is here by the host's clock
    figure_sums : by round, of the models whose figures a run may end with: the best one and the
        newest that was evaluated
    scales : of the layers in the next round, with ``[compression]``
    blind : a ``Blind``, where the model is a sum that only hospitals can read; b'' in other runs
    best_blind : in such a run, whose sum the best round's model was made of last
    """

    round: int
    model: Arrays
    totals: Sums
    # as ``server/strategies/state.py`` captures them: arrays by name, and all else around them
    strategy_arrays: Arrays = field(default_factory=dict)
    strategy_tree: dict[str, Any] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    best_round: int | None = None
    best_value: float | None = None
    best_over: str | None = None
    clipping_norm: float | None = None
    not_better: int = 0
    spent: list[str] = field(default_factory=list)
    frozen: str = ""
    largest_weight: int = 0
    first_model: str = ""
    ready: dict[str, tuple[int, float]] = field(default_factory=dict)
    figure_sums: dict[int, KeptSums] = field(default_factory=dict)
    scales: Scales | None = None
    blind: bytes = b""
    best_blind: int = 0

    @property
    def sent_blind(self) -> bytes:
        """What goes with the model."""
        if not self.blind:
            return b""
        return replace(Blind.from_bytes(self.blind), best=self.best_blind).to_bytes()

    def note_best_blind(self) -> None:
        """After an evaluation: where it is the best round so far, which model that is."""
        if self.blind and self.best_round == self.round:
            self.best_blind = Blind.from_bytes(self.blind).round

    def keep_sums(self, *evaluations: KeptSums) -> None:
        """Take in what was evaluated, and forget models that the run can't end with any more."""
        known = self.figure_sums | by_round(one for one in evaluations if one.sums or one.noised)
        wanted = {self.best_round, max(known, default=None)}
        self.figure_sums = {number: known[number] for number in sorted(known) if number in wanted}


def checkpoint_path(folder: Path, server_round: int) -> Path:
    """Where the checkpoint of a round stands."""
    return folder / f"round-{server_round:04d}.safetensors"


def write_checkpoint(
    folder: Path, state: FederationState, durable: bool = True, keep: Collection[int] = ()
) -> Path:
    """Commit the state and remove what is no longer needed.

    Arrays lie in sections: ``model/``, ``totals/``, ``strategy/``.

    durable : else the machine's end may tear the file, which its checksum tells
    keep : rounds that are needed all the same

    Raises OSError, and then nothing was committed or removed.
    """
    arrays = {f"model/{k}": v for k, v in state.model.items()}
    arrays |= {f"totals/{k}": v for k, v in state.totals.items()}
    arrays |= {f"strategy/{k}": v for k, v in state.strategy_arrays.items()}
    if state.scales is not None:
        arrays["compression/scales"] = state.scales
    for number, kept in state.figure_sums.items():
        arrays |= {f"sums/{number}/{k}": v for k, v in kept.arrays().items()}
    tree = {
        "round": state.round,
        "strategy": state.strategy_tree,
        "accepted": state.accepted,
        "best_round": state.best_round,
        "best_value": state.best_value,
        "best_over": state.best_over,
        "clipping_norm": state.clipping_norm,
        "not_better": state.not_better,
        "spent": state.spent,
        "largest_weight": state.largest_weight,
        "first_model": state.first_model,
    }
    if state.frozen:
        tree["frozen"] = state.frozen
    if state.blind:
        tree["blind"], tree["best_blind"] = state.blind.hex(), state.best_blind
    if state.ready:
        tree["ready"] = {name: list(one) for name, one in state.ready.items()}
    if state.figure_sums:
        tree["figure_sums"] = [one.about() for one in state.figure_sums.values()]
    path = checkpoint_path(folder, state.round)
    write_tensors(path, arrays, FORMAT.seal(tree), durable)
    prune(folder, state.best_round, keep)
    return path


def read_checkpoint(path: Path) -> FederationState:
    """The state in a checkpoint file. Raises CheckpointError if it can't be used.

    Files of before there were versions lack what ``get`` asks for.
    """
    arrays, stored = read_tensors(path)
    tree = FORMAT.read(stored, _OfAnotherVersion, str(path))
    try:
        return FederationState(
            round=int(tree["round"]),
            model=_encoded(_section(arrays, "model/")),
            totals=_section(arrays, "totals/"),
            strategy_arrays=_section(arrays, "strategy/"),
            strategy_tree=dict(tree["strategy"]),
            accepted={str(k): int(v) for k, v in tree["accepted"].items()},
            best_round=tree["best_round"],
            best_value=tree["best_value"],
            best_over=tree.get("best_over"),
            clipping_norm=tree["clipping_norm"],
            not_better=int(tree["not_better"]),
            spent=[str(name) for name in tree.get("spent", [])],
            frozen=str(tree.get("frozen", "")),
            largest_weight=int(tree.get("largest_weight", 0)),
            first_model=str(tree.get("first_model", "")),
            ready={str(k): (int(v), float(at)) for k, (v, at) in tree.get("ready", {}).items()},
            figure_sums=by_round(
                KeptSums.of(_section(arrays, f"sums/{about['round']}/"), about)
                for about in tree.get("figure_sums", [])
            ),
            scales=arrays.get("compression/scales"),
            blind=bytes.fromhex(tree.get("blind", "")),
            best_blind=int(tree.get("best_blind", 0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = "written by another version of wardround"
        raise _OfAnotherVersion(what, who=str(path), mend=FORMAT.mend) from error


def newest_checkpoint(folder: Path) -> FederationState | None:
    """The newest readable checkpoint; None if there is none at all.

    A damaged newer file is passed over for an older good one; if only damaged ones are left,
    CheckpointError tells about the newest, and in any case about one that is whole and of another
    version.
    """
    problem: CheckpointError | None = None
    for number in sorted(committed_rounds(folder), reverse=True):
        try:
            return read_checkpoint(checkpoint_path(folder, number))
        except _OfAnotherVersion:
            raise
        except CheckpointError as error:
            problem = problem or error
    if problem:
        raise problem
    return None


def committed_rounds(folder: Path) -> list[int]:
    """Rounds that have a checkpoint file."""
    found = (_PATTERN.match(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def prune(folder: Path, best_round: int | None, keep: Collection[int] = ()) -> None:
    """Remove all but the newest two, the best and ``keep``, with the client states beside them."""
    rounds = committed_rounds(folder)
    for number in set(rounds) - {*rounds[-_KEEP:], best_round, *keep}:
        path = checkpoint_path(folder, number)
        path.unlink(missing_ok=True)
        path.with_suffix(".clients").unlink(missing_ok=True)


def _encoded(arrays: Arrays) -> Arrays:
    """Ready to be sent without a copy; takes the arrays out of the mapping, one at a time."""
    return {name: encoded_view(arrays.pop(name)) for name in list(arrays)}


def _section(arrays: Arrays, prefix: str) -> Arrays:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
