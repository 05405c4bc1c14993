"""Data formats, a reader a file."""
