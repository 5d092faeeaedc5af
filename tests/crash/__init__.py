"""Randomized plans of crashes against the real binary; README.md says how to run them."""
