"""The page on which a trained model is tried: `session` is what it does, `page` what it looks like."""
