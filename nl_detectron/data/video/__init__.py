"""Clips from video files: the reader, the samples of training and evaluation, lists of videos."""
