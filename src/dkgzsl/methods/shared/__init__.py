"""What several methods share: the critic, the softmax classifier, scales, class statistics, training."""
