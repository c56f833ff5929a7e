"""Benchmarks. Each is `python -m benchmarks.NAME`, has its baseline beside it, and audits itself."""
