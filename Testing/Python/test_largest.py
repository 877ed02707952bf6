"""The largest channel of every voxel."""

import torch

from BrainGenLib.networks.largest import largest


def test_it_is_argmax_and_the_first_of_equal_ones():
    scores = torch.randint(0, 4, (7, 5, 6, 4), generator=torch.Generator().manual_seed(0)).float()
    scores[:, 0] = -torch.inf
    assert torch.equal(largest(scores), scores.argmax(0))
    assert largest(scores.half()).dtype == torch.int64
