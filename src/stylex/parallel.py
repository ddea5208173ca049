"""Devices, precision and ranks: the only module that knows of them.

Lightning Fabric launches, picks the device and casts. The networks never go through its `setup`:
that would wrap them in DistributedDataParallel, which does not mix with the double backward of R1
and path length (method.md, trap 8). Gradients are averaged here instead.
"""

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import torch
from lightning.fabric import Fabric
from torch import Tensor

Precision = Literal["auto", "fp32", "bf16"]


def start(*, device: str = "auto", precision: Precision = "auto") -> Fabric:
    """Join the ranks that torchrun started (or be the only one).

    Args:
        device: "auto", "cpu", "cuda" or "mps".
        precision: "auto" is bf16 where the hardware multiplies it natively, else fp32.

    Raises:
        ValueError: another precision.
    """
    if precision not in get_args(Precision):
        wanted = ", ".join(get_args(Precision))
        raise ValueError(f"precision {precision!r} came; wanted one of {wanted}")
    torch.set_flush_denormal(True)  # denormals made CPU steps several times slower
    if precision == "auto":
        precision = "bf16" if native_bf16(device) else "fp32"
    # torchrun says how many ranks there are; Fabric, told of one device, would be the only one
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 0))
    fabric = Fabric(
        accelerator=device,
        devices=local or ("auto" if device == "cuda" else 1),
        num_nodes=int(os.environ["WORLD_SIZE"]) // local if local else 1,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def native_bf16(device: str) -> bool:
    """Whether bf16 is multiplied natively: emulated on a CPU it is slower than fp32."""
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch >= 2.10
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def average_gradients(fabric: Fabric, parameters: Iterable[Tensor]) -> None:
    """Mean of the gradients over the ranks, one message; nothing to do on one rank."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if fabric.world_size == 1 or not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    flat = fabric.all_reduce(flat, reduce_op="mean")
    assert isinstance(flat, Tensor)
    parts = flat.split([g.numel() for g in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def end_when_told(fabric: Fabric, says: str, place: Path) -> None:
    """Say so once and end where torchrun tells to: it tells all ranks when one of them has died.

    Args:
        fabric: of this job; nothing changes on one rank.
        says: one line for the user.
        place: a directory of all ranks: who leaves the mark of this launch there speaks.
    """

    def end(*_: object) -> None:
        try:
            (place / f"ended-{os.getppid()}").touch(exist_ok=False)
        except OSError:
            sys.exit(1)
        sys.exit(says)

    if fabric.world_size > 1:
        place.mkdir(parents=True, exist_ok=True)
        signal.signal(signal.SIGTERM, end)


def together(fabric: Fabric) -> None:
    """Wait until all ranks are here.

    Raises:
        ValueError: one of them has died.
    """
    try:
        fabric.barrier()
    except RuntimeError:
        raise ValueError("a process of this job died; the same command goes on") from None
