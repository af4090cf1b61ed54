import numpy as np
import pytest

from zeshel_tasks.training.objective import epoch_order


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("grouped", [True, False])
def test_epoch_visits_each_mention_once_in_reproducible_order(shuffle: bool, grouped: bool) -> None:
    groups = np.arange(103) % 5 if grouped else None
    orders = [epoch_order(103, 7, epoch, shuffle=shuffle, groups=groups, batch_size=8).tolist() for epoch in (0, 1, 1)]
    assert all(sorted(order) == list(range(103)) for order in orders)
    assert orders[1] == orders[2]
    assert (orders[0] == orders[1]) == (not shuffle)


def test_whole_batches_share_a_group_and_are_shuffled() -> None:
    groups = np.random.default_rng(1).integers(0, 3, 200)
    order = epoch_order(200, 7, 0, shuffle=True, groups=groups, batch_size=16)
    batches = [groups[order[start : start + 16]] for start in range(0, 200, 16)]
    pure = [len(set(batch.tolist())) == 1 for batch in batches]
    assert sum(pure) >= sum(int((groups == group).sum()) // 16 for group in range(3))
    firsts = [batch[0] for batch, is_pure in zip(batches, pure, strict=True) if is_pure]
    assert firsts != sorted(firsts), "one world after the other would be a curriculum, and forgotten"


def test_groups_smaller_than_batch_lose_no_mention() -> None:
    order = epoch_order(6, 7, 0, shuffle=True, groups=np.array([0, 0, 1, 1, 2, 2]), batch_size=4)
    assert sorted(order) == list(range(6))
