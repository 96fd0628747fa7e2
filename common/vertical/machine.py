"""A party whose protocol is written as one text: a generator that yields a turn in each step.

    def talk(memory):
        letters = yield Turn({"lab": b"..."})               # one step
        found = yield from memory.once("gram", gram(...))   # some steps, and the arrays they gave
        return Turn(over=True)

What it keeps are the letters of blocks that aren't finished, and the arrays of finished ones. A
party that goes on runs its text again from the start: finished blocks give their arrays at once,
the others are given the same letters. So the text must be of secret and letters alone: no clock,
no draw of the system.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.joint.party import Party, State, Turn

Letters = Mapping[str, bytes]
Values = dict[str, NDArray[Any]]
Talk = Generator[Turn, Letters, Turn]
Block = Generator[Turn, Letters, Values]
_STEP, _DONE, _LETTER = "step", "done", "letter"


class Memory:
    """What a text has finished, and the letters of what it hasn't. Names have no '/'."""

    def __init__(self, state: State | None) -> None:
        self.done: dict[str, Values] = {}
        self.letters: list[State] = []
        self.step = -1
        self.at = 0  # letters of this list that the running text has had
        for key, array in sorted((state or {}).items()):
            kind, _, rest = key.partition("/")
            name, _, part = rest.partition("/")
            if kind == _STEP:
                self.step = int(array[0])
            elif kind == _DONE:
                self.done.setdefault(name, {})
                if part:
                    self.done[name][part] = array
            else:
                while len(self.letters) <= int(name):
                    self.letters.append({})
                if part:
                    self.letters[int(name)][part] = array

    def once(self, name: str, block: Block) -> Block:
        """The arrays that a block gives; where it has given them, without a step of it."""
        if name in self.done:
            block.close()
            return self.done[name]
        began = self.at
        values = yield from block
        self.done[name] = values
        del self.letters[began : self.at]
        self.at = began
        return values

    def state(self) -> State:
        """All of it, as arrays by name."""
        found: State = {_STEP: np.array([self.step])}
        empty = np.zeros(0)
        for name, values in self.done.items():
            found[f"{_DONE}/{name}/"] = empty
            found |= {f"{_DONE}/{name}/{part}": array for part, array in values.items()}
        for number, letters in enumerate(self.letters):
            found[f"{_LETTER}/{number}/"] = empty
            found |= {f"{_LETTER}/{number}/{sender}": one for sender, one in letters.items()}
        return found


class Talking(Party):
    """The party of a text. text : makes the generator; state : ``Party.state`` of before."""

    def __init__(self, text: Callable[[Memory], Talk], state: State | None) -> None:
        self._memory = Memory(state)
        self._text = text
        self._talk: Talk | None = None

    def step(self, number: int, letters: Letters) -> Turn:
        if number != self._memory.step + 1:
            raise ValueError(f"step {number} comes after {self._memory.step + 1}")
        if self._talk is None:
            self._talk = self._text(self._memory)
            if number == 0:
                self._memory.step = 0
                return next(self._talk)
            self._replay(self._talk)
        self._memory.letters.append(
            {sender: np.frombuffer(one, np.uint8) for sender, one in letters.items()}
        )
        turn = self._give(self._talk, letters)
        self._memory.step = number
        return turn

    def _replay(self, talk: Talk) -> None:
        """Runs the text as far as it was."""
        next(talk)
        while self._memory.at < len(self._memory.letters):
            letters = self._memory.letters[self._memory.at]
            self._give(talk, {sender: one.tobytes() for sender, one in letters.items()})

    def _give(self, talk: Talk, letters: Letters) -> Turn:
        self._memory.at += 1
        try:
            return talk.send(letters)
        except StopIteration as end:
            turn: Turn = end.value
            return turn

    def state(self) -> State:
        return self._memory.state()
