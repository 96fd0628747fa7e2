"""Analyses of many columns at once."""
