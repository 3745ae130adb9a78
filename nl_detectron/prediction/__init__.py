"""Detections in images, videos and camera frames: reading, predicting, drawing and writing."""
