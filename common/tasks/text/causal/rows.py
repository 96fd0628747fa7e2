"""Conversations as token ids, and these as planes for a model.

A document is one conversation: its prompt, then each answer as a branch that sees the prompt and
itself. Several documents stand in one row where they are packed; they don't see each other.

Shapes: N documents, M tokens of all of them, R rows, T tokens of a row (``max_length``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.text.causal.template import Encoded

TOKEN, POSITION, DOCUMENT, BRANCH = range(4)
"""The planes of a row. Document 0 is padding; branch 0 is a prompt, ``SCORED`` an earlier answer in
it, and 1, 2, ... are answers."""
SCORED = -1
_BRANCHES, _FLAGS = 128, 4
RIGHT, CHOOSING = 1, 2
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class InstructionRows:
    """Documents, end to end.

    tokens, branches : M
    starts : N + 1; document i has the tokens from ``starts[i]`` to ``starts[i + 1]``
    right : N, number of the right answer; -1 where nobody says it
    choosing : N, whether its answers are choices
    origin : N x 2: index into ``files``, line number (from 1)
    splits, patients : N, None where the data doesn't say
    keys : N, what tells one conversation from another
    cut : N, whether it lost the start or end of a message
    """

    tokens: NDArray[np.int32]
    branches: NDArray[np.int16]
    starts: Ints
    right: Ints
    choosing: NDArray[np.bool_]
    files: tuple[Path, ...]
    origin: Ints
    keys: NDArray[np.str_]
    cut: NDArray[np.bool_]
    splits: NDArray[np.str_] | None = None
    patients: NDArray[np.str_] | None = None
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.right)

    @property
    def lengths(self) -> Ints:
        """N: tokens of each document."""
        return np.diff(self.starts)

    def with_left_out(self, left_out: tuple[LeftOut, ...]) -> InstructionRows:
        """The same, with what was left out beside them."""
        return replace(self, left_out=left_out)

    def prompt(self, number: int) -> list[int]:
        """Token ids of a document up to where its answer begins."""
        span = slice(int(self.starts[number]), int(self.starts[number + 1]))
        found: list[int] = self.tokens[span][self.branches[span] <= 0].tolist()
        return found

    def select(self, rows: Ints) -> InstructionRows:
        """The given documents, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[index]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.arange(starts[-1]) + np.repeat(self.starts[index] - starts[:-1], lengths)
        return replace(
            self,
            tokens=self.tokens[places],
            branches=self.branches[places],
            starts=starts,
            right=self.right[index],
            choosing=self.choosing[index],
            origin=self.origin[index],
            keys=self.keys[index],
            splits=None if self.splits is None else self.splits[index],
            patients=None if self.patients is None else self.patients[index],
            cut=self.cut[index],
            left_out=(),
        )


def flat(documents: Sequence[Encoded]) -> tuple[NDArray[np.int32], NDArray[np.int16], Ints]:
    """Tokens, branches and starts of documents, end to end."""
    tokens: list[int] = []
    branches: list[int] = []
    starts = [0]
    for one in documents:
        tokens += one.prompt
        branches += [SCORED if scored else 0 for scored in one.scored]
        for number, answer in enumerate(one.answers, start=1):
            tokens += answer
            branches += [number] * len(answer)
        starts.append(len(tokens))
    return (
        np.array(tokens, dtype=np.int32),
        np.array(branches, dtype=np.int16),
        np.array(starts, dtype=np.int64),
    )


def packed(lengths: Ints, most: int) -> list[list[int]]:
    """Documents to rows of at most ``most`` tokens: the longest first, each into the fullest row
    that has room (best fit decreasing). Which row comes first follows from its first document."""
    rows: list[list[int]] = []
    room: list[int] = []
    for number in np.argsort(-lengths, kind="stable"):
        size = int(lengths[number])
        fits = [row for row, left in enumerate(room) if left >= size]
        if fits:
            row = min(fits, key=lambda one: room[one])
            rows[row].append(int(number))
            room[row] -= size
        else:
            rows.append([int(number)])
            room.append(most - size)
    return sorted((sorted(row) for row in rows), key=lambda row: row[0])


def planes(rows: InstructionRows, length: int, pack: bool) -> tuple[Ints, Ints]:
    """Inputs R x 4 x T, and targets R x T: 0 where nothing is scored, else what ``decoded`` reads.

    Without ``pack`` a row is a document.
    """
    groups = packed(rows.lengths, length) if pack else [[number] for number in range(len(rows))]
    inputs = np.zeros((len(groups), 4, length), dtype=np.int64)
    targets = np.zeros((len(groups), length), dtype=np.int64)
    for row, documents in enumerate(groups):
        at = 0
        for name, number in enumerate(documents, start=1):
            span = slice(int(rows.starts[number]), int(rows.starts[number + 1]))
            branches = rows.branches[span].astype(np.int64)
            here = slice(at, at + len(branches))
            inputs[row, TOKEN, here] = rows.tokens[span]
            inputs[row, POSITION, here] = positions(branches)
            inputs[row, DOCUMENT, here] = name
            inputs[row, BRANCH, here] = branches
            targets[row, here] = _coded(
                branches, name, int(rows.right[number]), bool(rows.choosing[number])
            )
            at += len(branches)
    return inputs, targets


def positions(branches: Ints) -> Ints:
    """Of each token, as if its branch followed the prompt alone."""
    found = np.arange(len(branches), dtype=np.int64)
    for branch in range(2, int(branches.max(initial=0)) + 1):
        inside = branches == branch
        prompt = int((branches <= 0).sum())
        found[inside] = prompt + np.arange(int(inside.sum()))
    return found


def _coded(branches: Ints, document: int, right: int, choosing: bool) -> Ints:
    scored = branches != 0
    flags = np.where((branches == right + 1) | (branches == SCORED), RIGHT, 0)
    flags = flags + (CHOOSING if choosing else 0)
    code = (document * _BRANCHES + np.maximum(branches, 0)) * _FLAGS + flags
    return np.where(scored, code, 0)


def decoded(codes: Ints) -> tuple[Ints, Ints, Ints]:
    """Document (from 1), branch (0: an earlier answer) and flags of targets that aren't 0."""
    places = codes // _FLAGS
    return places // _BRANCHES, places % _BRANCHES, codes % _FLAGS
