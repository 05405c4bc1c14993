"""The embedded data set of two-digit handwritten numbers, and its backbone."""
