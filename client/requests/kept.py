"""Names under which a hospital's state has what never leaves it."""

from __future__ import annotations

PERSONAL = "personal"
"""Entries that stay at the hospital, or a whole model of its own: what evaluations load."""
