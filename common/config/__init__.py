"""From ``federation.toml`` and ``--set`` to one frozen, checked configuration and its task.

It never fills in what a user got wrong: file, line, key and mend are named.
"""
