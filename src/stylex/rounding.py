"""How products are rounded: TF32 and bf16 where they may be, and full fp32 where effects are."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def round_products(rounds: bool) -> None:
    """Whether this process's GPU rounds products to ten bits of a mantissa (TF32): not to explain.

    Torch keeps it for all that follows, so whoever asks for it takes it back.
    """
    torch.set_float32_matmul_precision("high" if rounds else "highest")
    torch.backends.cudnn.allow_tf32 = rounds


@contextmanager
def exact_products() -> Iterator[None]:
    """Meanwhile a GPU multiplies fp32 in full: effects are differences, and hashes are compared.

    Nor does it time algorithms: moves come in batches of many sizes, each timed anew.
    """
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    round_products(False)
    cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32, cudnn.benchmark = before[1:]


def quick_bf16(device: str) -> bool:
    """Whether bf16 is quicker than fp32: on GPUs and on CPUs that multiply it (AMX, AVX-512).

    Emulated it is several times slower. benchmarks/training_speed.py times both.
    """
    if device == "cuda" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch >= 2.10
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
