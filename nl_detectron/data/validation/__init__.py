"""Checks of a data set in COCO's format before a training uses it, and a contact sheet."""
