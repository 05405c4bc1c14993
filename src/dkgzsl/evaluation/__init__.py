"""Metrics, the two protocols, selection on held-out images, calibration."""
