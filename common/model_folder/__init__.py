"""A finished model in a folder that stands by itself: what it is of, and that nobody altered it.

``listed.py`` is the signed list of its files, ``write.py`` makes a folder, ``folder.py`` opens one.
"""
