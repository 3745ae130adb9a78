"""What a non-local block is good for, and where: trained twins on the relay data set.

``sweep`` runs what is missing, ``report`` makes docs/evidence.md of the results.
"""
