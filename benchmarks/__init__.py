"""Benchmarks of time and memory: ``python -m benchmarks.run``. README.md describes the method."""
