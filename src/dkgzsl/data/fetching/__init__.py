"""Benchmark data sets from their official sources: addresses, downloads, archives."""
