"""After which epochs of a training its model is looked at, where the number of epochs is not known beforehand."""


def is_look(epoch: int) -> bool:
    """Whether an epoch is 2^k or 3 * 2^k: looks are dense where models change, and few."""
    power: int = epoch & -epoch
    return epoch // power in (1, 3)
