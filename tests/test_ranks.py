"""Several processes over the same batches do what one does: draws, parts, whole trainings."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_parallel import free_port
from test_training import draw_photos, make_classifier
from torch import Tensor

from stylex import cli, runs, step, training
from stylex.augment import diff_augment, spoil
from stylex.draws import Draw
from stylex.losses import mix_cut, path_lengths
from stylex.networks import Generator
from stylex.ops import minibatch_std
from stylex.parts import parts_of
from stylex.runs import Run

# 20 steps in which everything that a step can do happens, most of it several times
OPTIONS: dict[str, Any] = {
    "resolution": 32,
    "width": 0.125,
    "total_images": 160,
    "batch": 8,
    "flips": True,
    "hide_p": 0.5,
    "judged_share": 1.0,
    "noise_share": 0.5,
    "hybrid_share": 0.5,
    "perceptual": "classifier",
    "adversarial_from_images": 0,
    "r1_interval_steps": 4,
    "path_weight": 2.0,
    "path_interval_steps": 4,
    "few_weight": 0.01,
    "tied_weight": 0.1,
    "thin_weight": 0.1,
    "thin_free": 1.0,
    "thin_interval_steps": 4,
    "thin_spoilt": True,
    "log_images": 40,
    "snapshot_images": 160,
    "checkpoint_images": 80,
    "device": "cpu",
    "precision": "fp32",
}
SHORT = {"total_images": 32, "log_images": 8, "checkpoint_images": 16, "width": 0.0625}


def train(folder: Path, run: str, **changed: Any) -> None:
    """The training that all processes of a test begin."""
    training.train(folder / "photos", make_classifier(), run=folder / run, **OPTIONS | changed)


# --- draws and parts, without processes ----------------------------------------------------------


def drawing(seed: int, rank: int = 0, ranks: int = 1) -> Draw:
    """One process's draws in a known state."""
    return Draw(torch.Generator().manual_seed(seed), rank=rank, ranks=ranks)


@given(
    share=st.integers(1, 4),
    ranks=st.integers(1, 4),
    others=st.lists(st.integers(1, 3), max_size=3),
    axis=st.integers(0, 3),
)
def test_ranks_draw_together_what_one_draws(share: int, ranks: int, others: list[int], axis: int):
    """Number by number and draw after draw, whatever axis holds the images."""
    axis = min(axis, len(others))
    shape, whole = ([*others[:axis], n, *others[axis:]] for n in (share, share * ranks))

    def three(draw: Draw, shape: list[int]) -> list[Tensor]:
        numbers = draw.uniform(*shape, axis=axis), draw.normal(*shape, axis=axis)
        return [*numbers, draw.integers(-2, 9, *shape, axis=axis)]

    wanted = three(drawing(1), whole)
    for rank in range(ranks):
        mine = torch.arange(rank, share * ranks, ranks)
        for part, all_of_it in zip(three(drawing(1, rank, ranks), shape), wanted, strict=True):
            assert torch.equal(part, all_of_it.index_select(axis, mine))


def noisy(images: Tensor, draw: Draw) -> Tensor:
    """Pictures of styles taken from images, with noise in every layer."""
    torch.manual_seed(0)
    synthesis = Generator(32, 3, 2, width=0.0625).synthesis
    for conv in synthesis.convs:
        conv.noise_strength.data.fill_(0.1)
    return synthesis(images.flatten(1)[:, : synthesis.layout.size], draw)


def lengths(images: Tensor, draw: Draw) -> Tensor:
    """Path lengths of images that are a square of w."""
    w = images.flatten(1)[:, :5].clone().requires_grad_()
    return path_lengths(images * w.square().sum(1)[:, None, None, None], w, draw)


DRAWERS: dict[str, Callable[[Tensor, Draw], Tensor]] = {
    "augment": diff_augment,
    "spoil": spoil,
    "layer noise": noisy,
    "path length": lengths,
    "mixing": lambda images, draw: mix_cut(len(images), 7, 0.5, draw),
}


@pytest.mark.parametrize("drawer", DRAWERS)
def test_an_image_gets_the_same_draw_on_any_number_of_ranks(drawer: str):
    """All that draws for images in a step, over 1, 2 and 4 processes."""
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = DRAWERS[drawer](images, drawing(3))
    assert not torch.equal(whole, DRAWERS[drawer](images, drawing(4)))
    for ranks in (2, 4):
        for rank in range(ranks):
            part = DRAWERS[drawer](images[rank::ranks], drawing(3, rank, ranks))
            torch.testing.assert_close(part, whole[rank::ranks], rtol=1e-4, atol=1e-5)


@given(share=st.integers(1, 12), ranks=st.integers(1, 4))
def test_groups_of_the_minibatch_deviation_lie_on_one_rank(share: int, ranks: int):
    """Where the parts are accepted, D sees in its own images what it sees in all of them."""
    options = SimpleNamespace(batch=share * ranks, judged_share=1.0, noise_share=0.0)
    options.hybrid_share, options.kl_share = 0.0, 1.0
    images = torch.randn(share * ranks, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = minibatch_std(images)
    try:
        assert parts_of(options, ranks=ranks).judged == share
    except ValueError:
        return
    for rank in range(ranks):
        torch.testing.assert_close(minibatch_std(images[rank::ranks]), whole[rank::ranks])


def test_parts_that_cannot_be_shared_are_refused():
    """In one line that says how many images, of how many processes, and what would do."""
    options = SimpleNamespace(**OPTIONS | {"kl_share": 1.0})
    assert parts_of(options, ranks=2) == (4, 4, 2, 1, 4, 1, 2)
    for changed, ranks, says in (
        ({"batch": 9}, 2, r"2 processes share 9 images \(batch, of a batch of 9\).*multiple of 2"),
        ({"judged_share": 0.5}, 2, r"share 4 images \(judged, of a batch of 8\).*multiple of 8"),
        ({"noise_share": 0.4}, 2, r"share 3 images \(noise"),
        ({"hybrid_share": 0.2}, 2, r"share 1 images \(hybrids"),
        ({}, 4, r"4 processes share 8 images \(judged.*multiple of 16"),
    ):
        with pytest.raises(ValueError, match=says) as caught:
            parts_of(SimpleNamespace(**vars(options) | changed), ranks=ranks)
        assert "\n" not in str(caught.value)
        parts_of(SimpleNamespace(**vars(options) | changed))


def test_other_processes_let_the_first_one_speak(monkeypatch, capsys):
    """All of them find the same mistake; torchrun ends the others while they wait."""
    slept: list[float] = []
    monkeypatch.setattr(cli.time, "sleep", slept.append)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setattr(sys, "argv", ["stylex", "nonsense"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 2
        assert capsys.readouterr().err.startswith("stylex: there is no command 'nonsense'")
        assert slept == [10] * int(rank)


# --- two processes -------------------------------------------------------------------------------


def main(folder: Path) -> None:
    """All trainings of the tests below; importing is slow, so one process begins them all."""
    draw_photos(folder / "photos")
    slow = {name: 2e-4 for name in ("rate", "encoder_rate", "discriminator_rate")}
    train(folder, "one, float32", **slow)
    two_processes(lambda rank: train(folder, "two, float32", **slow))
    two_processes(lambda rank: one_sees_no_number(folder, rank))
    two_processes(lambda rank: one_dies(folder, rank))

    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    train(folder, "one")
    two_processes(lambda rank: train(folder, "two"))
    half_way(folder, "one", "one, then two")
    two_processes(lambda rank: train(folder, "one, then two"))
    half_way(folder, "two", "two, then one")
    train(folder, "two, then one")


def two_processes(work: Callable[[int], None]) -> None:
    """Copies of this process with the environment that torchrun gives, until both have ended."""
    port, children = str(free_port()), []
    for rank in range(2):
        if child := os.fork():
            children.append(child)
            continue
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GROUP_RANK": "0"}
        os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test"}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        work(rank)
        os._exit(0)
    for child in children:
        os.waitpid(child, 0)


def one_sees_no_number(folder: Path, rank: int) -> None:
    """A loss that is not finite on the second rank only, without a gradient that says so."""
    real = step.Step.__call__

    def call(self: step.Step, *args: Any, **given: Any) -> Any:
        losses = real(self, *args, **given)
        if rank and (given["images_seen"], given["attempt"]) == (16, 0):
            self.finite.fill_(False)
        return losses

    step.Step.__call__ = call
    train(folder, "back", **SHORT)


def one_dies(folder: Path, rank: int) -> None:
    """The second rank ends without a word, in the third step."""
    real = step.Step.__call__

    def call(self: step.Step, *args: Any, **given: Any) -> Any:
        if rank and given["images_seen"] == 16:
            os._exit(1)
        return real(self, *args, **given)

    step.Step.__call__ = call
    try:
        train(folder, "left alone", **SHORT)
    except ConnectionError as error:
        (folder / "said").write_text(str(error))


def half_way(folder: Path, run: str, copy: str) -> None:
    """The same run as its first checkpoint left it."""
    shutil.copytree(folder / run, folder / copy)
    shutil.rmtree(Run(folder / copy).saved()[-1])


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the runs of `main`, which went its own way."""
    folder = tmp_path_factory.mktemp("ranks")
    path = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    begun = subprocess.Popen(
        [sys.executable, __file__, str(folder)],
        env={**os.environ, **path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = begun.communicate(timeout=400)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(begun.pid, signal.SIGKILL)
    assert begun.returncode == 0, said[-3000:]
    (folder / "printed").write_text(said)
    return folder


def tensors(folder: Path, run: str) -> dict[str, Tensor]:
    """Everything that the last checkpoint holds: weights, their mean, moments."""
    last = Run(folder / run).saved()[-1]
    assert last.name == "000000160"
    return load_file(runs.tensors_file(last))


def farthest(folder: Path, run: str, other: str) -> float:
    """Largest distance of two runs' tensors, where 1 is the tensor's own largest number (or 1)."""
    ours, theirs = tensors(folder, run), tensors(folder, other)
    assert ours.keys() == theirs.keys()
    scale = {k: v.abs().max().clamp_min(1) for k, v in theirs.items()}
    return max(float((ours[k] - theirs[k]).abs().max() / scale[k]) for k in ours)


@pytest.mark.slow
@pytest.mark.parametrize("run", ["two", "one, then two", "two, then one"])
def test_weights_are_those_of_one_process(together: Path, run: str):
    """20 steps with R1, path length, thinness, hybrids and flips; resumed with other ranks too.

    In double precision, where rounding excuses nothing: weights, their mean, Adam's moments, the
    means of w and of path lengths. What is not drawn or taken over the whole batch moves weights by
    the rate, a thousandth and more.
    """
    assert farthest(together, run, "one") < 1e-9


@pytest.mark.slow
def test_weights_are_those_of_one_process_in_single_precision(together: Path):
    """At a low rate: leaky ReLUs and Adam make more of rounding the farther weights go.

    Each weight may move by 20 steps of 2e-4 and lies within a hundredth of that (measured on two
    machines: a four-thousandth and a two-hundred-and-fiftieth); a mapping's weight of 450 is also
    allowed its own rounding.
    """
    ours, theirs = tensors(together, "two, float32"), tensors(together, "one, float32")
    for name in ours:
        if name.startswith(("trained.", "average.")):
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-6, atol=4e-5)


@pytest.mark.slow
def test_losses_are_means_over_ranks(together: Path):
    """The log of two says what the log of one says."""
    logs = [runs.read_lines(Run(together / run).log) for run in ("two", "one")]
    assert [line["images_seen"] for line in logs[0]] == [40, 80, 120, 160]
    for ours, theirs in zip(*logs, strict=True):
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-5)


@pytest.mark.slow
def test_ranks_go_back_together(together: Path):
    """What only one of them sees; both end, and one has written it once."""
    log = runs.read_lines(Run(together / "back").log)
    assert [line["images_seen"] for line in log] == [8, 16, 24, 32]
    told = [f for line in log for f in line.get("health", ()) if f["name"] == "not a number"]
    assert [f["says"].endswith("(1 of 3)") for f in told] == [True]


@pytest.mark.slow
def test_a_rank_that_is_left_alone_says_so(together: Path):
    """In one line, without waiting for the other; it may be begun again."""
    said = (together / "said").read_text()
    assert said.startswith("another process of this job has ended")
    assert "\n" not in said
    assert [path.name for path in Run(together / "left alone").saved()] == ["000000016"]


@pytest.mark.slow
def test_one_rank_speaks(together: Path):
    """Each line of the console is there once, and nothing warns."""
    printed = (together / "printed").read_text()
    assert printed.count("two, then one: 24 colour images") == 1
    assert printed.count("/two: 24 colour images") == 1
    assert "GLOBAL_RANK" not in printed
    assert "arning" not in printed
    assert "Traceback" not in printed


if __name__ == "__main__":
    main(Path(sys.argv[1]))
