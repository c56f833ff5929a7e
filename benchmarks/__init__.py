"""Benchmarks: `python -m benchmarks.NAME`, each with its baseline and audited."""
