"""A finished model at a hospital: found, held against who may have signed it, given the hospital's
own rows.

What the hospital does with it (``client/calibration``, exports, watching) begins here. It computes
for this hospital alone: nothing of it is ever sent.
"""
