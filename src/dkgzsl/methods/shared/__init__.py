"""Parts of several methods: the critic, the softmax classifier, scalings, class statistics, batches."""
