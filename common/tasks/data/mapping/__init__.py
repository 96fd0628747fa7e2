"""A hospital's own columns become the study's: names, units, codes, missing texts, derived ones.

All of it is the hospital's to state (``[data.NAME.map]`` of ``site.toml``); nothing is guessed, and
nothing here runs code that a text holds. Each row is mapped by itself, so batches may be any.
"""
