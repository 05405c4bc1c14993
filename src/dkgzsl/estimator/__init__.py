"""The zero-shot classifier in scikit-learn's manner."""
