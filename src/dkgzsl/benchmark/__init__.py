"""Comparison of methods: grids of cells, published and measured figures, searches on one's own data."""
