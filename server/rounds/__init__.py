"""The federation's loop: members, set-up, rounds, evaluation, selection, checkpoints.

A round counts once its checkpoint is on disk. It never looks into a reply: gatherers do.
"""
