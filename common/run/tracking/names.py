"""What all trackers call the same."""

ROUND = "round"
"""A metric that every round has: which rounds stand there already."""
