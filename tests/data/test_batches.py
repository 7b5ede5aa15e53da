from __future__ import annotations

import itertools

import pytest
import torch

from eoc.data import Batches, chunks
from eoc.errors import InvalidInput

N = 10
LABELS = torch.arange(N)
INPUTS = torch.arange(N * 3, dtype=torch.float32).reshape(N, 3)
TARGETS = -INPUTS[:, :2].clone()


def batches(batch_size, seed=0, **processes):
    return Batches(INPUTS, TARGETS, LABELS, batch_size, seed, **processes)


@pytest.mark.parametrize("batch_size", [None, N, N + 5])
def test_full_batch_is_the_very_same_tensors_at_every_step(batch_size):
    full = batches(batch_size)
    assert full.steps_per_epoch == 1
    for step in (0, 1, 17):
        assert [tensor.data_ptr() for tensor in full.at(step)] == [
            tensor.data_ptr() for tensor in (INPUTS, TARGETS, LABELS)
        ]
        assert torch.equal(full.at(step)[2], LABELS)


@pytest.mark.parametrize(("batch_size", "sizes"), [(5, [5, 5]), (4, [4, 4, 2]), (9, [9, 1]), (1, [1] * 10)])
def test_an_epoch_visits_every_example_once(batch_size, sizes):
    some = batches(batch_size)
    assert some.steps_per_epoch == len(sizes)
    orders = []
    for epoch in range(3):
        steps = range(epoch * len(sizes), (epoch + 1) * len(sizes))
        assert [len(some.at(step)[2]) for step in steps] == sizes
        orders.append(torch.cat([some.at(step)[2] for step in steps]).tolist())
        assert sorted(orders[-1]) == LABELS.tolist()
    assert len({tuple(order) for order in orders}) == 3


def test_rows_stay_together():
    for step in range(6):
        inputs, targets, labels = batches(4).at(step)
        assert torch.equal(inputs, INPUTS[labels])
        assert torch.equal(targets, TARGETS[labels])


def test_a_batch_depends_on_seed_and_step_alone():
    forward = batches(4, seed=7)
    expected = [forward.at(step)[2].tolist() for step in range(9)]
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    backward = batches(4, seed=7)
    assert [backward.at(step)[2].tolist() for step in reversed(range(9))] == expected[::-1]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [batches(4, seed=8).at(step)[2].tolist() for step in range(9)] != expected
    # neighbouring seeds do not share their epochs' orders
    assert batches(4, seed=8).at(0)[2].tolist() != forward.at(3)[2].tolist()


def test_minibatches_of_an_epoch_are_views_of_one_permuted_copy():
    some = batches(4)
    storages = {some.at(step)[0].untyped_storage().data_ptr() for step in range(3)}
    assert len(storages) == 1
    assert some.at(2)[0].data_ptr() == some.at(0)[0].data_ptr() + 8 * 3 * 4  # eight rows of three float32
    assert INPUTS.data_ptr() not in storages


def test_iteration_starts_where_it_is_told_and_does_not_end():
    some = batches(4)
    assert some.start_step == 0
    some.start_step = 5
    for step, batch in zip(range(5, 16), itertools.islice(some, 11), strict=True):
        assert torch.equal(batch[2], some.at(step)[2])
    assert torch.equal(next(iter(some))[2], some.at(5)[2])


@pytest.mark.parametrize(("batch_size", "world_size"), [(None, 3), (5, 2), (4, 2), (7, 3)])
def test_shards_are_contiguous_and_make_up_the_batch(batch_size, world_size):
    whole = batches(batch_size)
    ranks = [batches(batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step in range(5):
        shards = [rank.at(step) for rank in ranks]
        for part in range(3):
            assert torch.equal(torch.cat([shard[part] for shard in shards]), whole.at(step)[part])
        sizes = [len(shard[2]) for shard in shards]
        assert max(sizes) - min(sizes) <= 1
    assert ranks[0].steps_per_epoch == whole.steps_per_epoch


def test_the_shard_of_a_full_batch_is_no_copy():
    second = batches(None, rank=1, world_size=2)
    assert second.at(0)[0].data_ptr() == second.at(4)[0].data_ptr() == INPUTS[5:].data_ptr()


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 4, "seed": -1}, "seed"),
        ({"batch_size": 4, "rank": 2, "world_size": 2}, "rank"),
        ({"batch_size": 4, "world_size": 0}, "world_size"),
        ({"batch_size": 9, "world_size": 2}, "batch_size"),  # the last batch of one cannot be shared
    ],
)
def test_bad_arguments(arguments, key):
    with pytest.raises(InvalidInput) as caught:
        batches(**arguments)
    assert caught.value.key == key


def test_chunks_are_consecutive_views():
    parts = chunks(INPUTS, TARGETS, 4)
    assert [len(inputs) for inputs, _ in parts] == [len(targets) for _, targets in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([targets for _, targets in parts]), TARGETS)
    assert [inputs.data_ptr() for inputs, _ in parts] == [INPUTS[start:].data_ptr() for start in (0, 4, 8)]
    (whole,) = chunks(INPUTS, TARGETS, None)
    assert whole[0].data_ptr() == INPUTS.data_ptr()
    assert len(chunks(INPUTS, TARGETS, 99)) == 1
    assert len(chunks(INPUTS, TARGETS, 10**20)) == 1  # more than 64 bits
    with pytest.raises(InvalidInput, match="size=0"):
        chunks(INPUTS, TARGETS, 0)
