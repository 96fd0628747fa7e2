"""``simulate`` as a program or a notebook calls it: with data in memory and models of its own.

It decides what ``wardround init --data`` decides, by the same code, tells it, and runs what
``simulations/run`` runs. It has no rules of its own, and writes no row to disk.
"""
