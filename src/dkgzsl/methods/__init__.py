"""DKGZSL and its peers behind one small interface: fit a task, score features over classes."""
