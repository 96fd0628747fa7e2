"""An audit bundle: what one needs to hold a run against what was agreed, in one signed archive.

``bundle.py`` says what is in it and checks one; ``server/results/bundle.py`` makes it. It has no
model weights' worth of secrets: nothing that its hospitals and its coordinator didn't sign or see.
"""
