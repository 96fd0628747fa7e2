"""What people see of a running federation: a terminal's table, log lines, the dashboard's board.

It is told of the run by ``server/observer.py`` and never asks, changes or keeps a model.
"""
