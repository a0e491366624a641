"""Measurements, run by hand: `python -m bench.<name>` from the repository's root. Figures to compare, never a gate."""
