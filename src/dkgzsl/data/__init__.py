"""What is known: the zero-shot problem, its parts, its readers."""
