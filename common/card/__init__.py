"""``card.md``: what a model is, for people who must decide on it.

Filled from the run alone: settings, sums over hospitals, figures with intervals. What the run can't
know is a person's to write, in ``[card]`` or a file of answers, and is marked as missing where
nobody has. It invents nothing and computes nothing on rows.
"""
