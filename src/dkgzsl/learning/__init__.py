"""From features to trained generators and classifiers."""
