"""Small messages that masks allow: how the numbers of an update are written in few bits.

    rotation   signs of the seed and Hadamard matrices, there and back
    scales     one for each layer: the rule that it follows, and what a hospital checks of it
    writing    a round's update as both sides write and read it

Everything here is public arithmetic on one update; nothing of it hides anything. What is added up,
and under which masks, is ``common/secagg``'s.
"""
