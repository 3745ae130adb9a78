"""The page of ``tools/explore.py``: click into an image and see where non-local blocks look."""
