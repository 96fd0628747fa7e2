"""Joint procedures: two to five parties send each other sealed letters through the server.

Where a procedure of sums asks each hospital the same, a joint one has parties that hold different
things (columns of the same persons), and what one sends is for another's eyes alone. The server
carries ciphertext; where the plan says so it is a party itself, with letters of its own.
"""

from wardround.common.joint.party import (
    COORDINATOR,
    JointProcedure,
    Me,
    Party,
    Turn,
)

__all__ = ["COORDINATOR", "JointProcedure", "Me", "Party", "Turn"]
