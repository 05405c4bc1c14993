"""What a trained run is used for: looking at photos."""
