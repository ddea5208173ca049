"""AttFind's effects, sooner: `attfind.one_by_one` with everything shared computed once.

The order is image, layer, coordinates. One image's styles are folded into plain convolutions
(`folding`); only the layers from the touched one on are drawn again.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stylex.folding import Folded, energies_of, goals_of
from stylex.foretelling import predict
from stylex.ledger import Ledger, key_of
from stylex.networks import Synthesis
from stylex.shapes import Bounds, Classify, Effects, Logits, Styles

CHECKED = 4  # moves of the first image that are computed again the slow way
ROUNDING = 1e-3  # of the logits' scale: fp32 differs by 1e-6, a wrong fold by far more
FEW = 3  # moves of an image that cost less, drawn from the start, than to fold the image
MOST, ALIVE = 64, 6  # moves drawn at once; tensors as large as the largest that live at once


@torch.no_grad()
def measure(
    synthesis: Synthesis,
    classify: Classify,
    styles: Styles,
    bounds: Bounds,
    *,
    strength: float = 1.0,
    batch: int = MOST,
    coordinates: Int64[Tensor, " j"] | None = None,
    wanted: Bool[Tensor, "n j 2"] | None = None,
    base: Logits | None = None,
    dtype: torch.dtype | None = None,
    ledger: Ledger | None = None,
) -> tuple[Effects, Logits]:
    """Effects of searched coordinates in both directions (method.md 4.1).

    Args:
        synthesis: draws styles with fixed noise.
        classify: logits of images.
        styles: `[n, s]` of the search images.
        bounds: `[2, s]` their range.
        strength: 1 lands on the bound.
        batch: moves drawn at once, two or more; the numbers do not depend on it.
        coordinates: only these, ascending; every searched one by default.
        wanted: only these moves of those coordinates; the effects of others are 0.
        base: what `base_logits` gave, where it is known.
        dtype: that moves are drawn in, the styles' own by default; bf16 is for ranks.
        ledger: keeps what is done and shares it over processes.

    Returns:
        Effects `[n, j, 2, k]` in logits and base logits `[n, k]` of the reconstructions.

    Raises:
        ValueError: a few moves, computed again without folding, came out otherwise.
    """
    given = (synthesis, classify, styles, bounds)
    ledger = ledger or Ledger()
    name = "exact" if dtype is None else str(dtype)
    if coordinates is None:
        coordinates = torch.arange(synthesis.layout.searched, device=styles.device)
    else:
        some = [coordinates] if wanted is None else [coordinates, wanted, styles]
        name = f"measured-{key_of(name, some)[:16]}"
    coordinates = coordinates.to(styles.device)  # of a large table, which stays on the CPU
    wanted = None if wanted is None else wanted.to(styles.device)
    if base is None:
        base = base_logits(*given, strength=strength, ledger=ledger)
    energies = energies_of(synthesis)

    @torch.no_grad()
    def work(n: int, done: int) -> Iterator[Tensor]:
        row, folded, still = styles[n : n + 1], None, base[n].expand(len(coordinates), -1)
        goals = goals_of(row, bounds, strength, synthesis.layout.searched)[coordinates]
        moves = goals != row[0, coordinates, None]
        moves = moves if wanted is None else moves & wanted[n]
        for part in moves.any(1).nonzero().flatten().split(max(1, batch // 2)):
            if not len(part) or (stop := int(part[-1]) + 1) <= done:
                continue
            if folded is None:
                folded = Folded(synthesis, row, energies, dtype=dtype)
                still = _unmoved(folded, classify)[coordinates] if dtype else still
            images = folded.draw(coordinates[part], goals[part], moves[part])
            effects = base.new_zeros(stop - done, 2, base.shape[1])
            which, direction = moves[part].nonzero(as_tuple=True)
            logits = classify(images.clamp(-1, 1))
            effects[part[which] - done, direction] = logits - still[part[which]]
            yield effects
            done = stop
        if done < len(coordinates):
            yield base.new_zeros(len(coordinates) - done, 2, base.shape[1])

    shape = len(styles), len(coordinates), 2, base.shape[1]
    each = 2.0 if wanted is None else 2.0 * float(wanted.double().mean())
    return ledger.fill(name, shape, work, like=base, each=each), base


def _unmoved(folded: Folded, classify: Classify) -> Float[Tensor, "searched k"]:
    """Logits of an image drawn from each coordinate's layer on, as its moves are, but not moved.

    In bf16 they are off by what all moves of the layer are off by.
    """
    widths = folded.synthesis.layout.widths
    firsts = torch.tensor([0, *widths]).cumsum(0)[:-1].to(folded.row.device)
    one = torch.tensor([[True, False]], device=firsts.device)
    goals = folded.row[0, firsts, None].expand(-1, 2)
    each = zip(firsts.split(1), goals.split(1), strict=True)
    logits = torch.cat([classify(folded.draw(*at, one).clamp(-1, 1)) for at in each])
    return logits.repeat_interleave(torch.tensor(widths, device=firsts.device), 0)


@torch.no_grad()
def scattered(
    synthesis: Synthesis,
    classify: Classify,
    styles: Styles,
    bounds: Bounds,
    *,
    moves: Int64[Tensor, "m 3"],
    base: Logits,
    strength: float = 1.0,
    batch: int = MOST,
    ledger: Ledger | None = None,
) -> Float[Tensor, "m k"]:
    """Effects of a few moves each of many images, drawn from the start, many images at once.

    Which ones go together depends on nothing but the moves, so the bits are those of one process.

    Args:
        synthesis, classify, styles, bounds, strength, batch, ledger: as for `measure`.
        moves: image, coordinate and direction of each.
        base: logits of the reconstructions.
    """
    parts, classes = moves.split(batch), base.shape[1]

    @torch.no_grad()
    def work(n: int, _done: int) -> Iterator[Tensor]:
        images, coordinates, directions = parts[n].T
        moved, which = styles[images], torch.arange(len(images), device=styles.device)
        here = moved[which, coordinates]
        goals = here + strength * (bounds[directions, coordinates] - here)
        moved[which, coordinates] = goals
        effects = classify(synthesis(moved).clamp(-1, 1)) - base[images]
        effects[goals == here] = 0
        yield torch.cat([effects, effects.new_zeros(batch - len(images), classes)])

    shape, each = (len(parts), batch, classes), len(moves) / (len(parts) * batch)
    name = f"scattered-{key_of('', [moves])[:16]}"
    effects = (ledger or Ledger()).fill(name, shape, work, like=base, each=each)
    return effects.flatten(0, 1)[: len(moves)].to(base.device)


def foretell(
    synthesis: Synthesis,
    classify: Classify,
    styles: Styles,
    bounds: Bounds,
    *,
    targets: list[int],
    strength: float = 1.0,
    batch: int = MOST,
    ledger: Ledger | None = None,
) -> Effects:
    """Effects to first order `[n, j, 2, targets]`: a few passes an image instead of thousands.

    Args:
        synthesis, classify, styles, bounds, strength, ledger: as for `measure`.
        targets: classes whose logits are foretold.
        batch: as for `measure`; a quarter as many images go together, for gradients need room.
    """
    name, energies = f"foretold-{key_of(str(targets))[:16]}", energies_of(synthesis)
    parts, searched = styles.split(max(1, batch // 4)), synthesis.layout.searched
    shape = len(parts), len(parts[0]), searched, 2, len(targets)

    def work(n: int, _done: int) -> Iterator[Tensor]:
        goals = torch.stack(
            [goals_of(row, bounds, strength, searched) for row in parts[n].split(1)]
        )
        how = {"targets": targets, "energies": energies}
        told = predict(synthesis, classify, parts[n], goals, **how)
        yield torch.cat([told, told.new_zeros(shape[1] - len(told), *shape[2:])])

    foretold = (ledger or Ledger()).fill(
        name, shape, work, like=styles, each=float(passes(targets))
    )
    return foretold.flatten(0, 1)[: len(styles)]


def passes(targets: list[int]) -> int:
    """What one image costs to foretell, as evaluations: a pass, and one back for each target."""
    return 1 + 2 * len(targets)


@torch.no_grad()
def base_logits(
    synthesis: Synthesis,
    classify: Classify,
    styles: Styles,
    bounds: Bounds,
    *,
    strength: float = 1.0,
    batch: int = 1,
    ledger: Ledger | None = None,
) -> Logits:
    """Logits `[n, k]` of the reconstructions, once a few moves of the first one were checked.

    Each process draws its own batches; the first image's logits tell how many classes there are.

    Args:
        synthesis, classify, styles, bounds, strength, ledger: as for `measure`.
        batch: images drawn at once; which ones are together moves the last bits.

    Raises:
        ValueError: those moves, drawn without folding, come out otherwise.
    """
    ledger = ledger or Ledger()

    def checked() -> Logits:
        _check(synthesis, classify, styles[:1], bounds, strength)
        return classify(synthesis(styles[:1]).clamp(-1, 1))

    first = ledger.once("first", checked).to(styles.device)
    parts = styles.split(batch)

    @torch.no_grad()
    def work(n: int, _done: int) -> Iterator[Tensor]:
        one = batch == 1 and not n
        logits = first if one else classify(synthesis(parts[n]).clamp(-1, 1))
        yield torch.cat([logits, logits.new_zeros(batch - len(logits), logits.shape[1])])

    shape = len(parts), batch, first.shape[1]
    logits = ledger.fill(f"base-{batch}", shape, work, like=first, each=0.0)
    return logits.flatten(0, 1)[: len(styles)].to(styles.device)


def _check(
    synthesis: Synthesis, classify: Classify, row: Styles, bounds: Bounds, strength: float
) -> None:
    """A few moves of one image, folded and drawn from the start."""
    folded = Folded(synthesis, row)
    goals = goals_of(row, bounds, strength, synthesis.layout.searched)
    draw = torch.Generator().manual_seed(0)
    some = torch.randperm(len(goals), generator=draw)[:CHECKED].sort()[0].to(row.device)
    pairs = [folded.draw(one, goals[one]) for one in some.split(1)]  # as few at once as can be
    quick = torch.cat([classify(pair.clamp(-1, 1)) for pair in pairs])
    moved = row.repeat(len(quick), 1)
    moved.scatter_(1, some.repeat_interleave(2)[:, None], goals[some].flatten()[:, None])
    plain = torch.cat([classify(synthesis(pair).clamp(-1, 1)) for pair in moved.split(2)])
    wrong = (quick - plain).abs().max() / plain.abs().max().clamp_min(1e-12)
    if wrong > ROUNDING:
        raise ValueError(
            f"the quick search differs from the plain one by {wrong:.1e} of the logits' scale; the "
            "classifier or the generator is not the same function twice: make it deterministic"
        )


class Largest(TorchDispatchMode):
    """Notes how many bytes an image takes at most in any result of operations on three images."""

    bytes = 0.0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operation and look at its result."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.shape[:1] == (3,):
            self.bytes = max(self.bytes, result.nbytes / 3)
        return result


@torch.no_grad()
def batch_within(memory: float, synthesis: Synthesis, classify: Classify, row: Styles) -> int:
    """How many moves drawn at once fit into some bytes: two or more, at most 64.

    Args:
        memory: bytes for the tensors of one batch.
        synthesis, classify: as for `measure`.
        row: `[1, s]` any styles.
    """
    with Largest() as seen:
        classify(synthesis(row.repeat(3, 1)).clamp(-1, 1))
    return max(2, min(MOST, int(memory / (ALIVE * seen.bytes))) // 2 * 2)


@torch.no_grad()
def pace(
    synthesis: Synthesis,
    classify: Classify,
    row: Styles,
    *,
    batch: int = MOST,
    dtype: torch.dtype | None = None,
) -> tuple[float, Float[Tensor, " j"]]:
    """Seconds to fold an image, and seconds that a move of each coordinate then takes.

    A batch of every layer is drawn twice; the second time is taken.
    """
    energies = energies_of(synthesis)
    folded, fold = timed(lambda: Folded(synthesis, row, energies, dtype=dtype))
    each, first = [], 0
    for width in synthesis.layout.widths:
        its = first + torch.arange(min(width, max(1, batch // 2)), device=row.device)
        goals = row[0, its, None].expand(-1, 2)
        _, seconds = timed(
            lambda its=its, goals=goals: classify(folded.draw(its, goals).clamp(-1, 1))
        )
        each.append(torch.full((width,), seconds / (2 * len(its))))
        first += width
    return fold, torch.cat(each)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a second call gives, and its seconds; the first one warms up."""
    settle = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    call()
    settle()
    began = time.perf_counter()
    result = call()
    settle()
    return result, time.perf_counter() - began
