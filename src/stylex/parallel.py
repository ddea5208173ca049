"""Devices, precision and ranks: the only module that knows of them.

Lightning Fabric launches, picks the device and casts. The networks never go through its `setup`:
that would wrap them in DistributedDataParallel, which does not mix with the double backward of R1
and path length (method.md, trap 8). Gradients are averaged here instead.
"""

import logging
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from lightning.fabric import Fabric
from torch import Tensor

from stylex.draws import Draw
from stylex.rounding import quick_bf16, round_products

Precision = Literal["auto", "fp32", "bf16"]


def start(*, device: str = "auto", precision: Precision = "auto") -> Fabric:
    """Join the ranks that torchrun started (or be the only one).

    Args:
        device: "auto", "cpu", "cuda" or "mps".
        precision: "auto" is bf16 where that is quicker, else fp32; "fp32" is without TF32.

    Raises:
        ValueError: another precision, or a device that is not here.
    """
    check_device(device, "auto")
    if precision not in get_args(Precision):
        wanted = ", ".join(get_args(Precision))
        raise ValueError(f"precision {precision!r} came; wanted one of {wanted}")
    torch.set_flush_denormal(True)  # denormals made CPU steps several times slower
    if torch.cuda.is_available():
        round_products(precision != "fp32")
        torch.backends.cudnn.benchmark = True  # every step has the same shapes
    # torchrun says how many ranks there are; Fabric, told of one device, would be the only one
    local, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 0)), torch.cuda.device_count()
    if device == "cuda" and local > gpus:
        raise ValueError(f"{local} processes share {gpus} GPUs; start fewer or take --device cpu")
    if device == "auto":  # MPS lacks operations of a step
        device = "cuda" if torch.cuda.is_available() and gpus >= local else "cpu"
    if precision == "auto":
        precision = "bf16" if quick_bf16(device) else "fp32"
    for part in ("fabric", "pytorch"):  # either tells of ranks and of bf16
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=device,
        devices=local or 1,  # several GPUs are torchrun's, as several processes are
        num_nodes=int(os.environ["WORLD_SIZE"]) // local if local else 1,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def check_device(device: str, *more: str) -> None:
    """Refuse what this machine has not.

    Args:
        device: by name.
        more: other words that are allowed.

    Raises:
        ValueError: no such device.
    """
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    devices = [*more, "cpu", *(name for name, there in here.items() if there)]
    if device not in devices:
        raise ValueError(f"device {device!r} came; this machine has {', '.join(devices)}")


def average_gradients(fabric: Fabric, parameters: Iterable[Tensor]) -> None:
    """Mean of the gradients over the ranks, one message; nothing to do on one rank."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if fabric.world_size == 1 or not gradients:
        return
    flat = mean(fabric, torch.cat([g.flatten() for g in gradients]))
    parts = flat.split([g.numel() for g in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def mean(fabric: Fabric, numbers: Tensor) -> Tensor:
    """Mean of each number over the ranks.

    Raises:
        ConnectionError: a rank has ended.
    """
    if fabric.world_size == 1:
        return numbers
    with _all_there():
        found = fabric.all_reduce(numbers.detach().to(fabric.device, copy=True), reduce_op="mean")
    assert isinstance(found, Tensor)
    return found.to(numbers.device)


def everywhere(fabric: Fabric, flag: Tensor) -> bool:
    """Whether a flag is set on all ranks: they go the same way."""
    return bool(mean(fabric, flag.float()) == 1)


def whole_batch(fabric: Fabric, rows: Float[Tensor, "m x"]) -> Float[Tensor, "n x"]:
    """The rows of all ranks in the order that one process has them in.

    A rank's own rows let the gradient through times the ranks: the mean of what it then is on each
    (`average_gradients`) is the gradient of a loss of the whole batch.

    Raises:
        ConnectionError: a rank has ended.
    """
    if fabric.world_size == 1:
        return rows
    mine = rows.detach().contiguous()
    found = [torch.empty_like(mine) for _ in range(fabric.world_size)]
    with _all_there():
        torch.distributed.all_gather(found, mine)  # Fabric's warns
    found[fabric.global_rank] = mine + fabric.world_size * (rows - mine)
    return torch.stack(found, 1).flatten(0, 1)


def draw_for(fabric: Fabric, generator: torch.Generator) -> Draw:
    """This rank's part of what the generator, in one state on all ranks, gives the whole batch."""
    return Draw(generator, rank=fabric.global_rank, ranks=fabric.world_size)


def wait(fabric: Fabric) -> None:
    """Until all ranks are here.

    Raises:
        ConnectionError: a rank has ended.
    """
    with _all_there():
        fabric.barrier()


@contextmanager
def _all_there() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # the only kind that gloo and NCCL raise
        says = str(error).splitlines()[0]
        raise ConnectionError(
            f"another process of this job has ended ({says}); see what it said, and begin "
            "them all again: they go on from what was saved"
        ) from None


@contextmanager
def one_speaks(fabric: Fabric, says: str, place: Path) -> Iterator[None]:
    """Let one rank explain why a job ended: torchrun stops all of them when one has.

    A rank that leaves by an error of its own says that, and the others stay silent; where one died
    without a word, the first rank that is stopped says `says`.

    Args:
        fabric: of this job; nothing changes on one rank.
        says: one line for the user where a rank died without a word.
        place: a directory of all ranks: who leaves the mark of this launch there speaks.
    """

    def first() -> bool:
        try:
            (place / f"ended-{os.getppid()}").touch(exist_ok=False)
        except OSError:
            return False
        return True

    if fabric.world_size > 1:
        place.mkdir(parents=True, exist_ok=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(says if first() else 1))
    try:
        yield
    except Exception:
        if fabric.world_size > 1:
            first()
        raise
