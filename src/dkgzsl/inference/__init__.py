"""What a trained run is used for: predictions, new classes, synthesis."""
