"""Command lines of the programs: what they share, before PyTorch and Detectron2 are imported.

Importing these takes seconds, which ``--help`` and a mistyped option need not wait for. So nothing
here imports them, nor nl_detectron, before a command line was parsed.
"""
