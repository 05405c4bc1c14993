"""Methods side by side: grids of cells, published figures beside measured ones, searches on one's own data."""
