"""The ring buffer is a deque."""

from collections import deque

import pytest
import torch

from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.parts.queue import Queue


@pytest.mark.parametrize("size", [1, 5, 7, 64])
@pytest.mark.parametrize("start", ["random", "empty"])
def test_after_any_sequence_of_batches_it_holds_what_a_deque_holds(size, start):
    generator = torch.Generator().manual_seed(size)
    queue = Queue(size, 3, start)
    expected = deque(queue.vectors().tolist(), maxlen=size)
    for _ in range(40):
        batch = torch.randn(int(torch.randint(1, 12, (), generator=generator)), 3, generator=generator)
        queue.push(batch)
        expected.extend(batch.tolist())
        assert sorted(queue.vectors().tolist()) == sorted(expected)


def test_a_random_start_is_full_of_unit_vectors_and_an_empty_one_of_nothing():
    assert torch.allclose(Queue(50, 8).vectors().norm(dim=1), torch.ones(50))
    assert Queue(50, 8, "empty").vectors().shape == (0, 8)


def test_it_goes_on_from_its_state():
    first, second = Queue(5, 2, "empty"), Queue(5, 2, "empty")
    first.push(torch.randn(7, 2))
    second.load_state_dict(first.state_dict())
    for queue in (first, second):
        queue.push(torch.ones(2, 2))
    assert torch.equal(first.vectors(), second.vectors())


def test_what_was_read_survives_the_next_push():
    queue = Queue(4, 2)
    before = queue.vectors()
    kept = before.clone()
    queue.push(torch.zeros(3, 2))
    assert torch.equal(before, kept)


def test_a_queue_of_nothing_is_refused():
    with pytest.raises(ScarceError, match="size 0"):
        Queue(0, 2)
