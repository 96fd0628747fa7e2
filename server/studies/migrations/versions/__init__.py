"""One file for each step, in alembic's form: ``revision`` names it, ``down_revision`` what it
follows. It says by hand what it makes, and takes nothing from ``tables.py``, which moves on.
"""
