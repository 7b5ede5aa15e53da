from __future__ import annotations

import pytest
import torch

from eoc.data.subsets import stratified
from eoc.errors import InvalidInput

UNEVEN = torch.repeat_interleave(torch.arange(4), torch.tensor([50, 31, 17, 3]))


@pytest.mark.parametrize("count", [0, 1, 4, 10, 37, 100, 101])
def test_class_counts_follow_the_shares(count):
    chosen = stratified(UNEVEN, count, seed=3)
    assert len(set(chosen.tolist())) == count
    shares = count * torch.bincount(UNEVEN) / len(UNEVEN)
    assert (torch.bincount(UNEVEN[chosen], minlength=4) - shares).abs().max() < 1.0


def test_equal_classes_get_equal_counts():
    labels = torch.arange(10).repeat(30)
    assert torch.bincount(labels[stratified(labels, 70, seed=0)]).tolist() == [7] * 10


def test_largest_remainders_round_up():
    # shares of 10 out of 101: 4.95, 3.07, 1.68, 0.30
    assert torch.bincount(UNEVEN[stratified(UNEVEN, 10, seed=0)], minlength=4).tolist() == [5, 3, 2, 0]


def test_the_choice_depends_on_its_seed_alone():
    torch.manual_seed(1)
    first = stratified(UNEVEN, 20, seed=5)
    state = torch.random.get_rng_state()
    assert torch.equal(stratified(UNEVEN, 20, seed=5), first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(stratified(UNEVEN, 20, seed=6), first)


def test_all_examples_are_taken_once_and_mixed():
    everything = stratified(UNEVEN, None, seed=0)
    assert sorted(everything.tolist()) == list(range(101))
    assert everything.tolist() != list(range(101))
    small = set(stratified(UNEVEN, 20, seed=0).tolist())
    assert small < set(stratified(UNEVEN, 80, seed=0).tolist())


@pytest.mark.parametrize(("count", "seed", "key"), [(102, 0, "count"), (-1, 0, "count"), (5, -1, "subset_seed")])
def test_out_of_range(count, seed, key):
    with pytest.raises(InvalidInput) as caught:
        stratified(UNEVEN, count, seed)
    assert caught.value.key == key
