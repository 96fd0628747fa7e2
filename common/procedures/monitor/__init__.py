"""``monitor``: what a finished model meets at all hospitals, in histograms alone.

procedure  the one step: counts of inputs, scores and outcomes
shown      what is published of them: nothing of fewer than so many persons
page       the same for people
"""
