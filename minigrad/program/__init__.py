"""Captured steps: what eager mode ran, as data for the machine."""
