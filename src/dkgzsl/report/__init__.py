"""Figures, charts and the HTML page of a run; what of a run is kept for them."""
