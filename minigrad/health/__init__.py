"""Gradient health: what a net's layers send up and get back, as figures, words and pictures."""
