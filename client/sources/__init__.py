"""Where a hospital keeps its data, and how they become what a task loads: a file or folder.

``settings.py`` has the tables of ``site.toml``, a sub-room each kind of source, and ``kinds.py``
knows them all; ``snapshot.py`` takes what a source gives once for a run, and ``kept.py`` remembers
it.
"""
