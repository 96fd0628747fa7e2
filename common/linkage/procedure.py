"""``[procedure]`` with ``name = "linkage"``: which persons all parties have rows of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Self

from wardround.common.config.load import Config
from wardround.common.joint.party import COORDINATOR, JointProcedure, Me, Party
from wardround.common.linkage.compare import Comparer
from wardround.common.linkage.party import LinkingParty
from wardround.common.linkage.plan import Plan
from wardround.common.settings import LINKAGE, LinkageOptions
from wardround.common.tasks.base import Task

TOLD = "linkage.json"
_TOLD_CHARACTERS = 4000


class Linkage(JointProcedure):
    """A linkage of the parties of the task.

    parties : their names, ordered
    options : of the procedure
    """

    name: ClassVar[str] = LINKAGE

    def __init__(self, parties: tuple[str, ...], options: LinkageOptions) -> None:
        self._options = options
        self.plan = Plan(
            parties=parties,
            compare=options.compare,
            smallest=options.smallest,
            padded=options.padded,
            most_rows=options.most_rows,
        )
        self.has_coordinator = options.compare == COORDINATOR

    @classmethod
    def of(cls, config: Config, task: Task[Any]) -> Self:
        """Of a task whose rows have keys. Raises ConfigError, by key."""
        options = config.procedure.settings
        assert isinstance(options, LinkageOptions)
        parties = getattr(getattr(task, "options", None), "parties", None)
        if parties is None:
            raise config.error(
                "task.name", "a linkage needs rows with identifiers", "name = 'linked' has them"
            )
        names = tuple(sorted(parties))
        if options.compare not in (COORDINATOR, *names):
            who = ", ".join(f"'{name}'" for name in (COORDINATOR, *names))
            raise config.error("procedure.compare", f"'{options.compare}' is none of {who}")
        if options.smallest > options.most_rows:
            raise config.error(
                "procedure.smallest", "more than most_rows, so nobody could be linked"
            )
        return cls(names, options)

    @property
    def parties(self) -> tuple[str, ...]:
        """Of the task."""
        return self.plan.parties

    @property
    def most_steps(self) -> int:
        """5 of two parties, 2 k + 3 of k."""
        return self.plan.steps

    @property
    def letter_bytes(self) -> int:
        """A list as long as lists may be."""
        return self.plan.letter_bytes

    @cached_property
    def told(self) -> Mapping[str, int]:
        """What was linked, without a number that the plan doesn't have rounded."""
        return {TOLD: _TOLD_CHARACTERS}

    def party(self, me: Me) -> Party:
        """Of rows with ``keys``. Raises JointRefused."""
        return LinkingParty(self.plan, me, self._tells)

    def coordinator(self, me: Me) -> Party:
        """Who compares, where the coordinator does."""
        return Comparer(self.plan, me)

    def _tells(self, linked: int, lengths: Mapping[str, int], order: bytes) -> Mapping[str, str]:
        smallest = self.plan.smallest
        text = {
            "version": 1,
            "parties": list(self.plan.parties),
            "compared_by": self.plan.compare,
            "linked_at_least": linked - linked % smallest,
            "rounded_to": smallest,
            "padded_rows": dict(lengths),
            "order": order.hex(),
        }
        return {TOLD: json.dumps(text, sort_keys=True)}


def sentence(found: Mapping[str, Any]) -> str:
    """What ``linkage.json`` says, for people."""
    who = ", ".join(found["parties"])
    return f"at least {found['linked_at_least']:,} persons are at all of {who}"
