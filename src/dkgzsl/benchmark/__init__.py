"""Comparisons of methods: grids of cells, published and measured figures; and searches on one's own data."""
