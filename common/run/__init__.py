"""The run directory, what identifies a run, and its report.

Whatever a run leaves behind is written here and read here. It never computes a figure.
"""
