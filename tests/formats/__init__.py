"""Writers of each on-disk format, for tests: what a reader must understand, written by other code than ours."""
