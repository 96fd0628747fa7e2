"""The coordinator's process: it opens its folder and the port, greets hospitals, runs rounds.

It never trains, and never takes a hospital's word for who it is.
"""
