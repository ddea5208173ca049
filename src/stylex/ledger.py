"""Long work that survives a kill and is shared by several processes.

A search asks for one tensor after another, row by row. A tensor lies in a file that every process
of the job maps into its memory; beside it a note for each row says how many of its entries stand
and what their checksum is. Entries are written before their note, a note is one number: a kill at
any moment leaves whole entries, and whoever starts again, alone or as any number of processes, does
only the rest. Rows belong to processes by their number, so nobody has to be asked.
"""

import hashlib
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from math import prod
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stylex.runs import replacing

Work = Callable[[int, int], Iterator[Tensor]]
Progress = Callable[[int, int], None]
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
PAUSE = 0.05  # seconds between looks at what the other processes have done


class Ledger:
    """Finished parts of one search.

    Args:
        folder: where they are kept until `remove`; None keeps them in memory only.
        rank, ranks: of this process, and how many share the folder, on one machine.
        memory: bytes; a tensor larger than a quarter of them stays in its file.
        progress: called with the evaluations done and to do, over all processes.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        rank: int = 0,
        ranks: int = 1,
        memory: str = "2GB",
        progress: Progress | None = None,
    ):
        self.top = self.folder = folder
        self.rank, self.ranks, self.memory = rank, ranks, bytes_of(memory)
        self.progress = progress
        self.done, self.expected = 0.0, 0.0  # evaluations of finished tensors; of all, if known

    def bind(self, key: str) -> None:
        """Keep only what has this key; what was done under another one is not seen."""
        if self.top is not None:
            self.folder = self.top / key[:16]
            self.folder.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Forget all parts: what they were for has been written."""
        if self.top is not None and self.top.is_dir():
            shutil.rmtree(self.top)

    def once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """A small tensor that the first process makes and all take."""
        if self.folder is None:
            return make()
        path = self.folder / f"{name}.safetensors"
        if self.rank == 0 and not path.is_file():
            with replacing(path) as partial:
                save_file({name: make().cpu().contiguous()}, partial)
        while not path.is_file():
            time.sleep(PAUSE)
        return load_file(path)[name]

    def fill(
        self, name: str, shape: tuple[int, ...], work: Work, *, like: Tensor, each: float
    ) -> Tensor:
        """A tensor whose rows all processes work off, from where an earlier start left them.

        Args:
            name: says, together with the key, all that its numbers depend on.
            shape: `[rows, entries, ...]`.
            work: from the number of a row and of its entries that stand to the next entries, some
                at a time, in an order that is always the same.
            like: gives type and device.
            each: evaluations that one entry takes.

        Returns:
            The tensor, once all rows are whole.
        """
        values = self._open(name, shape, like.dtype)
        notes = self._open(f"{name}.notes", shape[:1], torch.int64)
        rows, entries = shape[:2]

        def tell() -> None:
            if self.progress:
                stand = self.done + each * int((notes >> 32).sum())
                total = max(self.expected, self.done + each * rows * entries)
                self.progress(round(stand), round(total))

        for row in range(self.rank, rows, self.ranks):
            stop, check = _standing(values[row], int(notes[row]))
            for part in work(row, stop) if stop < entries else ():
                start, stop = stop, stop + len(part)
                values[row, start:stop] = part.to(values)
                check = zlib.crc32(_bytes(values[row, start:stop]), check)
                notes[row] = stop << 32 | check
                tell()
            assert stop == entries, "the work of a row ends with its last entry"
        left = list(range(rows))
        while left := [row for row in left if not _whole(values[row], int(notes[row]))]:
            tell()
            time.sleep(PAUSE)
        self.done += each * rows * entries
        if self.folder is None:
            return values.to(like.device)
        return values if values.nbytes > self.memory / 4 else values.clone().to(like.device)

    def room(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Zeros of this process alone: in a file where they are larger than a quarter of memory."""
        if self.folder is None or prod(shape) * like.element_size() <= self.memory / 4:
            return like.new_zeros(shape)
        return self._open(f"{name}-{self.rank}", shape, like.dtype).zero_()

    def stands(self, name: str, shape: tuple[int, ...]) -> float:
        """Share of a tensor's entries that an earlier start left."""
        if self.folder is None or not (self.folder / f"{name}.notes").is_file():
            return 0.0
        notes = self._open(f"{name}.notes", shape[:1], torch.int64)
        return float((notes >> 32).sum()) / (shape[0] * shape[1])

    def _open(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """The tensor of a file; zeros where it is new."""
        if self.folder is None or not prod(shape):
            return torch.zeros(shape, dtype=dtype)
        path = str(self.folder / name)
        return torch.from_file(path, shared=True, size=prod(shape), dtype=dtype).view(shape)


def key_of(about: str, tensors: Iterable[Tensor] = ()) -> str:
    """SHA-256 of words and tensors: all that some numbers depend on."""
    digest = hashlib.sha256(about.encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor.detach().cpu()))
    return digest.hexdigest()


def bytes_of(memory: str) -> int:
    """Bytes of "2GB" or "500MB".

    Raises:
        ValueError: it says no size.
    """
    said = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", memory.strip().upper())
    if not said or not float(said[1]):
        raise ValueError(f"memory is {memory!r}; wanted a size like 2GB or 500MB")
    return int(float(said[1]) * UNITS[said[2]])


def _standing(row: Tensor, note: int) -> tuple[int, int]:
    """How many entries of a row are finished, and their checksum; (0, 0) where it is not theirs."""
    stop, check = note >> 32, note & 0xFFFFFFFF
    sound = stop <= len(row) and zlib.crc32(_bytes(row[:stop])) == check
    return (stop, check) if sound else (0, 0)


def _whole(row: Tensor, note: int) -> bool:
    return note >> 32 == len(row) and _standing(row, note)[0] == len(row)


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
