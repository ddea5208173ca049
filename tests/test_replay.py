"""Recorded work on a GPU equals plain work; without one it is always plain."""

import pytest
import torch
from torch import Tensor

from stylex.replay import WARM, Replay


def test_off_a_gpu_each_call_is_plain():
    """Nothing is recorded, and kinds and tensors come through."""
    calls = []

    def work(kind: int, x: Tensor) -> dict[str, Tensor]:
        calls.append(kind)
        return {"sum": kind * x.sum()}

    replay = Replay(work, torch.Generator(), on=False)
    found = [replay(kind, torch.ones(2))["sum"].item() for kind in (1, 2, 2, 2, 2, 2)]
    assert found == [2, 4, 4, 4, 4, 4]
    assert calls == [1, 2, 2, 2, 2, 2]
    assert not replay.recordings


@pytest.mark.gpu
def test_a_recording_draws_what_its_seed_says_and_takes_what_it_is_given():
    """Numbers of a recorded call are those of a plain one, also after other kinds and seeds."""
    device = torch.device("cuda")
    total = torch.zeros((), device=device)

    def work(kind: int, x: Tensor) -> dict[str, Tensor]:
        drawn = torch.rand(4, generator=generator, device=device)
        total.add_(x.sum())
        return {"drawn": kind * drawn.sum(), "given": x.sum()}

    generator = torch.Generator(device)
    plain, recorded = (Replay(work, generator, on=on) for on in (False, True))
    for call in range(3 * WARM):
        found = []
        for replay in (plain, recorded):
            generator.manual_seed(call)
            found.append(replay(1 + call % 2, torch.full((3,), float(call), device=device)))
        assert found[0].keys() == found[1].keys()
        assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert len(recorded.recordings) == 2
    assert total.item() == 2 * 3 * sum(range(3 * WARM))


@pytest.mark.gpu
def test_what_asks_the_host_is_called_as_it_is():
    """It cannot be recorded; the numbers come all the same."""

    def work(kind: int, x: Tensor) -> dict[str, Tensor]:
        return {"sum": x.sum() * float(x.max())}

    replay = Replay(work, torch.Generator("cuda"), on=True)
    given = torch.full((3,), 2.0, device="cuda")
    assert [replay(0, given)["sum"].item() for _ in range(2 * WARM)] == [12.0] * 2 * WARM
    assert not replay.recordings
