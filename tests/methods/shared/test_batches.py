import torch

from dkgzsl.methods.shared.training import draw_batches


def test_batches_list_their_classes_and_leave_no_image_out() -> None:
    labels = torch.randint(0, 7, (23,), generator=torch.Generator().manual_seed(0))
    batches = draw_batches(labels, number=6, size=8, random=torch.Generator().manual_seed(1))
    assert batches.images.shape == (6, 8)
    flat = batches.images.flatten()
    assert sorted(flat[:23].tolist()) == list(range(23))
    assert sorted(flat[23:46].tolist()) == list(range(23))
    for images, rows, classes, slots in zip(
        batches.images, batches.labels, batches.classes, batches.slots, strict=True
    ):
        assert torch.equal(rows, labels[images])
        assert torch.equal(classes[slots], rows)
        assert len(set(slots.tolist())) == len(set(rows.tolist()))  # one slot a class
        assert set(classes.tolist()) == set(rows.tolist())  # padding names no other class
