"""A run to and from a model hub or a folder."""
