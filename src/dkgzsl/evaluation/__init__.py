"""Metrics, the two protocols, and published results."""
