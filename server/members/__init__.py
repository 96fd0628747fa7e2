"""Hospitals as the server knows them, and who of them is asked in a round.

It never depends on when a hospital answered: draws come from seed, round and attempt.
"""
