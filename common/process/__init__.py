"""What every process of ours does at its start and its end: logs, signals, checks, help texts.

It never knows what the process is for.
"""
