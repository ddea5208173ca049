"""What all tests share. Nothing here imports stylex: the shape checks hook into its import."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import chromium
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[2] / "shared"

if "PYTEST_XDIST_WORKER" in os.environ:  # files run side by side: one thread each, or they wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# the same examples on every machine, no clock, nothing left on disk
settings.register_profile("house", derandomize=True, deadline=None, max_examples=25, database=None)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run."""
    if not SHARED.is_dir():
        _skip(items, "shared", "the real images and weights (../shared) are not beside the project")
    if chromium() is None:
        _skip(items, "browser", "Chromium is not installed (Debian: apt-get install chromium)")
    if any(item.get_closest_marker("gpu") for item in items) and not _cuda():
        _skip(items, "gpu", "no CUDA device")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and weights; the test also carries `@pytest.mark.shared`."""
    return SHARED


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """Training flushes denormals, for the whole process: undone, or later tests would feel it."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()
