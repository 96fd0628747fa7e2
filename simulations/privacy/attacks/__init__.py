"""Attacks on one's own configuration: what they find, and what they can't see."""
