"""AttFind's effects, sooner: `attfind.one_by_one` with everything shared computed once.

The order is image, layer, coordinates. One image's styles are folded into plain convolutions
(`folding`); only the layers from the touched one on are drawn again.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor

from stylex.folding import Classify, Folded, goals_of, predict
from stylex.networks import Synthesis
from stylex.shapes import Bounds, Effects, Logits, Styles

CHECKED = 4  # moves of the first image that are computed again the slow way
ROUNDING = 1e-3  # of the logits' scale: fp32 differs by 1e-6, a wrong fold by far more


@torch.no_grad()
def measure(
    synthesis: Synthesis,
    classify: Classify,
    styles: Styles,
    bounds: Bounds,
    *,
    strength: float = 1.0,
    batch: int = 64,
    wanted: Bool[Tensor, "j 2"] | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Effects, Logits]:
    """Effects of every searched coordinate in both directions (method.md 4.1).

    Args:
        synthesis: draws styles with fixed noise.
        classify: logits of images.
        styles: `[n, s]` of the search images.
        bounds: `[2, s]` their range.
        strength: 1 lands on the bound.
        batch: moves drawn at once, two or more; the numbers do not depend on it.
        wanted: only these moves; the others' effects are 0.
        progress: called with the number of images done.

    Returns:
        Effects `[n, j, 2, k]` in logits and base logits `[n, k]` of the reconstructions.

    Raises:
        ValueError: a few moves, computed again without folding, came out otherwise.
    """
    widths = synthesis.layout.widths
    searched = sum(widths)
    base = torch.cat([classify(synthesis(row).clamp(-1, 1)) for row in styles.split(1)])
    effects = base.new_zeros(len(styles), searched, 2, base.shape[1])
    for n, row in enumerate(styles.split(1)):
        folded, goals = Folded(synthesis, row), goals_of(row, bounds, strength, searched)
        moves = goals != row[0, :searched, None]
        moves = moves if wanted is None else moves & wanted
        first = 0
        for layer, width in enumerate(widths):
            its = moves[first : first + width].any(1).nonzero().flatten()
            for part in its.split(max(1, batch // 2)):
                if not len(part):
                    continue
                where = moves[first + part].flatten().nonzero().flatten()
                images = folded.draw(layer, part, goals[first + part], where)
                logits = classify(images.clamp(-1, 1))
                effects[n, first + part[where // 2], where % 2] = logits - base[n]
            first += width
        if not n:
            _check(synthesis, classify, row, effects[0], base[0], goals=goals, moves=moves)
        if progress:
            progress(n + 1)
    return effects, base


def foretell(
    synthesis: Synthesis,
    classify: Classify,
    styles: Styles,
    bounds: Bounds,
    *,
    targets: list[int],
    strength: float = 1.0,
    progress: Callable[[int], None] | None = None,
) -> Effects:
    """Effects to first order `[n, j, 2, targets]`: a few passes an image instead of thousands."""
    searched, rows = synthesis.layout.searched, []
    for n, row in enumerate(styles.split(1)):
        with torch.no_grad():
            folded = Folded(synthesis, row)
        goals = goals_of(row, bounds, strength, searched)
        rows.append(predict(folded, classify, goals, targets))
        if progress:
            progress(n + 1)
    return torch.stack(rows)


def _check(
    synthesis: Synthesis,
    classify: Classify,
    row: Tensor,
    effects: Tensor,
    base: Tensor,
    *,
    goals: Tensor,
    moves: Tensor,
) -> None:
    """A few moves of one image again, drawn from the start."""
    some = moves.flatten().nonzero().flatten()
    draw = torch.Generator().manual_seed(0)
    some = some[torch.randperm(len(some), generator=draw)[:CHECKED].to(some.device)]
    if not len(some):
        return
    moved = row.repeat(len(some), 1)
    moved.scatter_(1, some[:, None] // 2, goals.flatten()[some, None])
    again = classify(synthesis(moved).clamp(-1, 1)) - base
    scale = base.abs().max() + again.abs().max()
    wrong = (effects.flatten(0, 1)[some] - again).abs().max() / scale.clamp_min(1e-12)
    if wrong > ROUNDING:
        raise ValueError(
            f"the quick search differs from the plain one by {wrong:.1e} of the logits' scale; the "
            "classifier or the generator is not the same function twice: make it deterministic"
        )
