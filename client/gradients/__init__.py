"""Sums of gradients clipped per unit (example or patient) of a model."""
