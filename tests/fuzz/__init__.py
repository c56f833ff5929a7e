"""Hostile producers, drawn from a seed, against a real worker and real servers."""
