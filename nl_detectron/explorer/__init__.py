"""The page of ``nl-detectron explore``: click into an image and see where non-local blocks look."""
