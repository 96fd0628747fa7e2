"""The built-in task of joint procedures: rows by identifiers, each party with columns of its own.

Parties hold different things of the same persons. Nothing here knows another party's rows: a shard
becomes ``LinkedRows``, in which each row has a key that is the same at all parties, and the columns
that ``[task.parties.NAME]`` gives this one.
"""

from wardround.common.tasks.linked.options import LinkedOptions, PartyColumns
from wardround.common.tasks.linked.rows import LinkedRows
from wardround.common.tasks.linked.task import LinkedTask

__all__ = ["LinkedOptions", "LinkedRows", "LinkedTask", "PartyColumns"]
