"""Numba kernels on plain arrays: nothing here knows of tensors, tapes or programs.

Import the module that holds the kernel you want (`from minigrad_kernels import activations`); this package re-exports nothing.
"""
