"""Evidence of what a non-local block gains, and where: models with and without it, trained on the
relay data set.

``sweep`` trains the missing runs, ``report`` makes docs/evidence.md from the results.
"""
