"""``evaluate``: figures of a finished model over hospitals, in sums alone.

procedure  the one step, and what is summed in it
page       the figures for people
"""
