"""A network's server: it stands for years, and runs the studies that its researchers submit.

One process leads, by a lease in the database; another one on the same database and folders waits.
It computes nothing for a study that isn't accepted, and decides nothing that a hospital decides.
"""
