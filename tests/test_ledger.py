"""Finished parts of a search: nothing lost or done twice, whoever dies, however many go on."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stylex.ledger import Ledger, bytes_of, key_of

SHAPE = 5, 6, 2


def number(row: int, entry: int) -> float:
    """What stands in each place."""
    return 100.0 * row + entry + 0.1


class Job:
    """Rows filled two entries at a time, with a count of what was done."""

    def __init__(self, ends_after: int = 10**9):
        self.done: list[tuple[int, int]] = []
        self.left = ends_after

    def __call__(self, row: int, done: int) -> Iterator[torch.Tensor]:
        """The next entries."""
        for first in range(done, SHAPE[1], 2):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            self.done += [(row, first), (row, first + 1)]
            yield torch.tensor([[number(row, first + i)] * SHAPE[2] for i in (0, 1)])


def filled(ledger: Ledger, job: Job, name: str = "rows") -> torch.Tensor:
    """The whole tensor."""
    return ledger.fill(name, SHAPE, job, like=torch.zeros(()), each=2.0)


def expected() -> torch.Tensor:
    """Written down."""
    rows = [[[number(n, j)] * SHAPE[2] for j in range(SHAPE[1])] for n in range(SHAPE[0])]
    return torch.tensor(rows)


def bound(folder: Path | None, key: str = "a" * 64, **options) -> Ledger:
    """A ledger of one key."""
    ledger = Ledger(folder, **options)
    ledger.bind(key)
    return ledger


@given(cuts=st.lists(st.integers(0, 6), max_size=4))
def test_a_cut_loses_and_repeats_nothing(cuts, tmp_path_factory):
    """Cut off wherever, and taken up as often as it takes: each entry was done once."""
    folder, done = tmp_path_factory.mktemp("cut"), []
    for cut in cuts:
        job = Job(cut)
        with suppress(KeyboardInterrupt):
            filled(bound(folder), job)
        done += job.done
    last = Job()
    assert torch.equal(filled(bound(folder), last), expected())
    done += last.done
    assert len(done) == len(set(done)) == SHAPE[0] * SHAPE[1]


def test_in_memory_it_only_fills():
    """Without a folder nothing is kept."""
    ledger, job = bound(None), Job()
    assert torch.equal(filled(ledger, job), expected())
    assert torch.equal(ledger.once("x", lambda: torch.ones(2)), torch.ones(2))
    assert ledger.stands("rows", SHAPE) == 0
    ledger.remove()


def test_other_keys_and_names_are_not_taken_up(tmp_path):
    """Another strength, another classifier: everything is done again."""
    first, other = Job(), Job()
    filled(bound(tmp_path), first)
    filled(bound(tmp_path, "b" * 64), other)
    assert other.done == first.done
    third = Job()
    filled(bound(tmp_path), third, "others")
    assert third.done == first.done
    same = Job()
    filled(bound(tmp_path), same)
    assert not same.done


def test_damage_is_found_by_the_checksum(tmp_path):
    """The damaged row alone is done again."""
    filled(bound(tmp_path), Job())
    (file,) = tmp_path.glob("*/rows")
    raw = bytearray(file.read_bytes())
    raw[2 * 6 * 2 * 4 + 5] ^= 1  # in row 2
    file.write_bytes(raw)
    job = Job()
    assert torch.equal(filled(bound(tmp_path), job), expected())
    assert {row for row, _ in job.done} == {2}


def test_half_of_the_rows_are_another_process(tmp_path):
    """Rank 1 of 2 does the odd rows; alone afterwards the even ones are done."""
    odd = Job(6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stylex.ledger.time.sleep", _stop)  # it would wait for the others
        with pytest.raises(KeyboardInterrupt):
            filled(bound(tmp_path, rank=1, ranks=2), odd)
    assert {row for row, _ in odd.done} == {1, 3}
    assert bound(tmp_path).stands("rows", SHAPE) == 2 / 5
    rest = Job()
    assert torch.equal(filled(bound(tmp_path, rank=0, ranks=1), rest), expected())
    assert {row for row, _ in rest.done} == {0, 2, 4}


def _stop(_seconds: float) -> None:
    raise KeyboardInterrupt


def test_progress_tells_what_stands_and_all_that_is_expected(tmp_path):
    """In evaluations, of this tensor and of those that are to come."""
    told: list[tuple[int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        filled(bound(tmp_path), Job(2))
    ledger = bound(tmp_path, progress=lambda *now: told.append(now))
    ledger.expected = 200.0
    filled(ledger, Job())
    assert told[0] == (12, 200)  # 4 entries stood, 2 were done
    assert told[-1] == (60, 200)
    filled(ledger, Job(), "more")
    assert told[-1] == (120, 200)
    filled(ledger, Job(), "still")
    filled(ledger, Job(), "longer")
    assert told[-1] == (240, 240)


def test_a_large_tensor_stays_in_its_file(tmp_path):
    """A small one does not: changing it changes no file."""
    assert filled(bound(tmp_path, memory="1KB"), Job()).nbytes < 500
    small = filled(bound(tmp_path, memory="1KB"), Job())
    small += 1
    assert torch.equal(filled(bound(tmp_path), Job()), expected())
    mapped = filled(bound(tmp_path, memory="200B"), Job())
    bound(tmp_path).remove()
    assert not tmp_path.exists()
    assert torch.equal(mapped, expected())  # what is mapped outlives its name


def test_room_past_the_memory_is_this_processes_own_file(tmp_path):
    """Zeros at every start."""
    like = torch.zeros(())
    for rank in (0, 1, 0):
        room = bound(tmp_path, rank=rank, ranks=2, memory="100B").room("table", SHAPE, like)
        assert not room.any()
        room += 1 + rank
    bound(tmp_path, memory="1KB").room("small", SHAPE, like)
    assert sorted(file.name for file in tmp_path.glob("*/*")) == ["table-0", "table-1"]


def test_the_first_process_makes_what_all_take(tmp_path):
    """Once; later starts read it."""
    made = bound(tmp_path).once("styles", lambda: torch.arange(4.0))
    again = bound(tmp_path, rank=1, ranks=2).once("styles", lambda: pytest.fail("made again"))
    assert torch.equal(made, again)


def test_a_key_hangs_on_words_values_and_shapes():
    """Any of them changes it."""
    zeros = torch.zeros(2, 3)
    keys = {
        key_of("a", [zeros]),
        key_of("b", [zeros]),
        key_of("a", [zeros + 1e-7]),
        key_of("a", [zeros.T]),
        key_of("a", [zeros, zeros]),
        key_of("a", [zeros.double()]),
    }
    assert len(keys) == 6
    assert key_of("a", [zeros.clone()]) in keys


@pytest.mark.parametrize(
    ("said", "size"), [("2GB", 2e9), ("1.5 mb", 1.5e6), ("300", 300), ("4T", 4e12)]
)
def test_sizes(said, size):
    """As people write them."""
    assert bytes_of(said) == size


@pytest.mark.parametrize("said", ["", "GB", "2 apples", "0GB", "-1GB"])
def test_no_size(said):
    """One line."""
    with pytest.raises(ValueError, match=r"memory is '.*'; wanted a size like 2GB or 500MB"):
        bytes_of(said)


# a real search, really killed

SEARCH = """
import os, signal, sys
import torch
from pathlib import Path
from safetensors.torch import save_file
from torch import nn
from stylex import explaining, parallel
from stylex.classifier import Classifier
from stylex.ledger import Ledger
from stylex.model import StylEx

folder, mode = Path(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)


class Counting(nn.Module):
    '''Logits of mean grays; notes each image it has seen, and dies at one of its calls.'''

    def __init__(self, name, dies_at):
        super().__init__()
        self.register_buffer("weights", torch.tensor([[1.0, -2.0, 0.5], [-1.0, 1.0, 2.0]]))
        self.file = os.open(folder / f"{name}.count", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.left = dies_at

    def forward(self, images):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        logits = 3 * (images.mean((2, 3)) @ self.weights.T).sin()
        os.write(self.file, b"." * len(images))
        return logits


def search(name, dies_at=0, rank=0, ranks=1):
    classifier = Classifier(Counting(name, 0), ("no", "yes"), size=32)
    model = StylEx(classifier, resolution=32, width=0.0625).eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 32, 32, generator=draw) * 2 - 1
    classifier.model.left = dies_at
    ledger = Ledger(folder / name, rank=rank, ranks=ranks)
    found = explaining.search(model, images, mode=mode, count=3, strength=2.0, ledger=ledger)
    (folder / f"{name}.calls").write_text(str(dies_at - classifier.model.left))
    kept = {n: getattr(found, n).contiguous() for n in ("effects", "logits", "styles", "bounds")}
    save_file(kept, folder / f"{name}.{rank}.safetensors")
    if not ranks - 1:
        ledger.remove()


def forked(*args, **options):
    child = os.fork()
    if not child:
        search(*args, **options)
        os._exit(0)
    return child


def outcome(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
KILLED = """
assert outcome(forked("whole")) == 0
calls = int((folder / "whole.calls").read_text())
for at in range(1, calls + 1, calls // 5 + 1):
    name = f"killed-{at}"
    for again in range(2):  # at the same call of the second start, if it is not the last
        said = outcome(forked(name, dies_at=at))
        assert said == -signal.SIGKILL or again, (at, said)
    if said:
        assert outcome(forked(name)) == 0
print("DONE")
"""
SHARED = """
pair = [forked("pair", rank=rank, ranks=2) for rank in range(2)]
assert [outcome(child) for child in pair] == [0, 0]
left, dying = forked("died", ranks=2), forked("died", rank=1, ranks=2, dies_at=5)
assert outcome(dying) == -signal.SIGKILL
os.kill(left, signal.SIGKILL)  # as torchrun ends the others
outcome(left)
again = [forked("died", rank=rank, ranks=3) for rank in range(3)]
assert [outcome(child) for child in again] == [0, 0, 0]
print("DONE")
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_who_is_killed_goes_on_and_who_are_many_share(tmp_path, mode):
    """Killed at five calls of the classifier: same bits, nothing twice. Two give the bits of one.

    After one of two died, three go on.
    """
    command = [sys.executable, "-c", SEARCH + KILLED + SHARED, str(tmp_path), mode]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert answer.stdout.split() == ["DONE", "DONE"]
    whole = (tmp_path / "whole.0.safetensors").read_bytes()
    others = set(tmp_path.glob("*.safetensors")) - {tmp_path / "whole.0.safetensors"}
    assert len(others) >= 4 + 2 + 3
    for file in others:
        assert file.read_bytes() == whole, file.name
    once = (tmp_path / "whole.count").stat().st_size
    for file in tmp_path.glob("killed-*.count"):  # each image that was classified
        at, seen = int(file.stem.split("-")[1]), file.stat().st_size
        early = at < 20  # what comes before the moves is made whole or not at all
        assert once <= seen <= once + 60 * early, file.name
    assert not [path for path in tmp_path.glob("killed-*") if path.is_dir()]
    shared = (tmp_path / "pair.count").stat().st_size
    assert shared == once
