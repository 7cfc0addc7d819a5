import torch

from ssbench.methods.parts.queue import Queue


def counted(start: int, count: int) -> torch.Tensor:
    return torch.arange(start, start + count).float()[:, None]


def test_the_newest_are_in_front_and_the_oldest_fall_out() -> None:
    queue = Queue(5, 1)
    for start in (0, 3, 6):
        queue.push(counted(start, 3))
    assert queue.vectors[:, 0].tolist() == [6, 7, 8, 3, 4] and queue.full
    queue.push(counted(10, 9))
    assert queue.vectors[:, 0].tolist() == [10, 11, 12, 13, 14]


def test_what_was_read_stays_as_it_was_so_that_a_gradient_may_need_it() -> None:
    queue, z = Queue(4, 1), torch.ones(2, 1, requires_grad=True)
    queue.push(counted(1, 4))
    read = queue.vectors
    loss = (z @ read.T).sum()
    queue.push(z)
    loss.backward()
    assert read[:, 0].tolist() == [1, 2, 3, 4] and z.grad is not None and z.grad[:, 0].tolist() == [10, 10]
    assert not queue.vectors.requires_grad


def test_its_state_comes_back() -> None:
    queue, again = Queue(4, 1), Queue(4, 1)
    queue.push(counted(1, 3))
    again.load_state_dict(queue.state_dict())
    assert torch.equal(again.vectors, queue.vectors) and again.count == 3 and not again.full
