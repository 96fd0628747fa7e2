"""FedRep, client side (Collins et al. 2021, arXiv 2102.07078, algorithm 1).

Of the received representation and the hospital's own head: steps on the head alone, then steps on
the representation alone, with the head as it is then. Send the representation.
"""

from __future__ import annotations

from wardround.client.algorithms.base import Plain


class FedRep(Plain):
    """What is added to gradients is fedper's; ``requests/ordinary.py`` says which layers move."""

    at_once = False
