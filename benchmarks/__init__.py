"""What the non-local sum costs, measured: ``python -m benchmarks.run``.

README.md tells the rules.
"""
