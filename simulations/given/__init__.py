"""Data that a program holds, as hospitals: frames, tables, arrays, paths.

``forms.py`` takes them apart, ``held.py`` keeps them for a simulation. It writes nothing to disk,
and looks at no value: what columns mean is decided in ``beginning``.
"""
