"""The embedded data set of two-digit handwritten numbers, with a backbone of its own."""
