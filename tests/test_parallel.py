"""Ranks: nothing to do on one; on two, the mean of the gradients, by the launch of torchrun."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
import torch
from lightning.fabric import Fabric

from stylex import parallel
from stylex.parallel import average_gradients
from stylex.rounding import exact_products, quick_bf16, round_products

# Each place of each gradient has its own number, times rank + 1; one parameter has none.
# Importing is the slow part, so the second rank is a copy of the first.
RANKS = """
import os, sys
import torch
from stylex.parallel import average_gradients, start

child = os.fork()
os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0" if child else "1"
fabric = start(device="cpu", precision="fp32")
assert (fabric.world_size, fabric.global_rank) == (2, 0 if child else 1), fabric.world_size
shapes = [(2, 3), (4,), (2, 3, 2, 2), ()]
parameters = [torch.zeros(shape) for shape in shapes]
numbers = [torch.arange(float(p.numel())).view(p.shape) + p.ndim for p in parameters[:3]]
for parameter, number in zip(parameters, numbers):
    parameter.grad = number * (fabric.global_rank + 1)
parameters[2].grad = parameters[2].grad.contiguous(memory_format=torch.channels_last)
average_gradients(fabric, parameters)
for parameter, number in zip(parameters, numbers):
    torch.testing.assert_close(parameter.grad, number * 1.5)
assert parameters[3].grad is None
os.write(1, b"RANK %d IS RIGHT;" % fabric.global_rank)
sys.exit(os.waitpid(child, 0)[1] if child else 0)
"""


@pytest.fixture
def _denormals() -> Iterator[None]:
    """`start` changes how the whole process counts."""
    yield
    torch.set_flush_denormal(False)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_one_rank_leaves_gradients_alone():
    """The very tensors, untouched."""
    fabric = Fabric(accelerator="cpu", devices=1)
    parameter = torch.zeros(3)
    parameter.grad = torch.tensor([1.0, float("inf"), 3.0])
    kept, pointer = parameter.grad.clone(), parameter.grad.data_ptr()
    average_gradients(fabric, [parameter, torch.zeros(2)])
    assert torch.equal(parameter.grad, kept)
    assert parameter.grad.data_ptr() == pointer
    average_gradients(fabric, [])


def test_two_ranks_get_the_mean():
    """Two processes over gloo, started as torchrun starts them."""
    torchrun = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "TORCHELASTIC_RUN_ID": "test",
        "GROUP_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    both = subprocess.Popen(
        [sys.executable, "-c", RANKS],
        env={**os.environ, **torchrun},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = both.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(both.pid, signal.SIGKILL)
    assert both.returncode == 0, said[-3000:]
    assert "RANK 0 IS RIGHT;" in said
    assert "RANK 1 IS RIGHT;" in said


@pytest.mark.parametrize("wrong", [True, False])
def test_who_knows_what_is_wrong_speaks_alone(wrong, tmp_path):
    """Told to end, a process says that one has died; not where one has left by an error."""
    fabric, before = Mock(spec=Fabric, world_size=2), signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.suppress(ValueError), parallel.one_speaks(fabric, "died", tmp_path / "x"):
            if wrong:
                raise ValueError
        for says in ([] if wrong else ["died"]) + [1, 1]:
            with pytest.raises(SystemExit) as end:
                signal.raise_signal(signal.SIGTERM)
            assert end.value.code == says
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_denormals")
def test_alone_there_is_one_rank():
    """Without torchrun."""
    fabric = parallel.start(device="cpu", precision="fp32")
    assert (fabric.world_size, fabric.global_rank, fabric.device.type) == (1, 0, "cpu")


@pytest.mark.usefixtures("_denormals")
def test_precision_is_what_was_asked(monkeypatch):
    """ "auto" takes bf16 only where it is quicker."""
    for quick, asked, expected in (
        (True, "auto", torch.bfloat16),
        (False, "auto", torch.float32),
        (False, "bf16", torch.bfloat16),
        (True, "fp32", torch.float32),
    ):
        monkeypatch.setattr(parallel, "quick_bf16", lambda _device, quick=quick: quick)
        fabric = parallel.start(device="cpu", precision=asked)
        with fabric.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


@pytest.mark.parametrize("device", ["cuda", "mps", "gpu"])
def test_a_device_that_is_not_here_is_refused(device, monkeypatch):
    """One line says which ones are."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: device == "gpu")
    there = "auto, cpu, mps" if device == "gpu" else "auto, cpu"
    with pytest.raises(ValueError, match=f"^device '{device}' came; this machine has {there}$"):
        parallel.start(device=device)


@pytest.mark.usefixtures("_denormals")
def test_more_processes_than_gpus_are_refused(monkeypatch):
    """One line, where Lightning would say it in a traceback."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes share 1 GPUs; start fewer or take"):
        parallel.start(device="cuda", precision="fp32")


def test_products_are_exact_for_a_while(monkeypatch):
    """TF32 and timed algorithms are as before afterwards, also after an error."""
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", True)

    def state() -> tuple[str, bool, bool]:
        return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark

    @exact_products()
    def fail() -> None:
        raise RuntimeError("{} {} {}".format(*state()))

    round_products(True)
    try:
        with pytest.raises(RuntimeError, match="highest False False"):
            fail()
        assert state() == ("high", True, True)
    finally:
        round_products(False)


@pytest.mark.parametrize(
    ("capabilities", "quick"),
    [
        ({}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx2": True}, False),
    ],
)
def test_quick_bf16_of_a_cpu(capabilities, quick, monkeypatch):
    """By what the processor says of itself; an older torch says nothing."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert quick_bf16("cpu") is quick
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert quick_bf16("cpu") is False


def test_a_start_says_nothing():
    """What a library has to tell of ranks and precision is no user's concern."""
    code = "from stylex import parallel; parallel.start(device='cpu', precision='bf16')"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
