"""Experiments on deep nets, run and drawn."""
