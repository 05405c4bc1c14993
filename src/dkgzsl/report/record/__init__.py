"""What a run saves for its report: predictions, class neighbours, attention maps, a map of the features."""
