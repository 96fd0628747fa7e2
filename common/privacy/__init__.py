"""Differential privacy: what both sides and the planner compute with; no party."""
