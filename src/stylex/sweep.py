"""AttFind's effects, sooner: `attfind.one_by_one` with the unchanged part drawn once.

All perturbations of one image share every feature before the layer they touch. So the order is
image, layer, coordinates, and only the layers from the touched one on are drawn again.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stylex.networks import Drawing, Synthesis
from stylex.shapes import Bounds, Effects, Images, Logits, Styles

Classify = Callable[[Images], Logits]


@torch.no_grad()
def measure(
    synthesis: Synthesis,
    classify: Classify,
    styles: Styles,
    bounds: Bounds,
    *,
    strength: float = 1.0,
    batch: int = 128,
    progress: Callable[[int], None] | None = None,
) -> tuple[Effects, Logits]:
    """Effects of every searched coordinate in both directions (method.md 4.1).

    Args:
        synthesis: draws styles with fixed noise.
        classify: logits of images.
        styles: `[n, s]` of the search images.
        bounds: `[2, s]` their range.
        strength: 1 lands on the bound.
        batch: perturbations drawn at once, two or more; the numbers do not depend on it.
        progress: called with the number of images done.

    Returns:
        Effects `[n, j, 2, k]` in logits and base logits `[n, k]` of the reconstructions.
    """
    widths = synthesis.layout.widths
    base = torch.cat([classify(synthesis(row).clamp(-1, 1)) for row in styles.split(1)])
    effects = base.new_zeros(len(styles), sum(widths), 2, base.shape[1])
    for n, row in enumerate(styles.split(1)):
        first = 0
        for layer, drawing in enumerate(synthesis.stages(row)):
            its = torch.arange(first, first + widths[layer], device=row.device)
            for part in its.split(max(1, batch // 2)):
                moved, where = perturbed(row, part, bounds, strength)
                if len(where):
                    logits = _finish(synthesis, classify, drawing, layer, moved)
                    effects[n, part[where // 2], where % 2] = logits - base[n]
            first += widths[layer]
        if progress:
            progress(n + 1)
    return effects, base


def perturbed(
    row: Float[Tensor, "1 s"],
    coordinates: Int64[Tensor, " j"],
    bounds: Bounds,
    strength: float,
) -> tuple[Float[Tensor, "m s"], Int64[Tensor, " m"]]:
    """Both moves of each coordinate of one image; what would stand still is left out.

    Returns:
        Styles `[m, s]`, and for each its place `2 * index + direction` among the moves.
    """
    here = row[0, coordinates][:, None]
    goals = here + strength * (bounds[:, coordinates].T - here)  # as `stylespace.shift`
    where = (goals != here).flatten().nonzero().flatten()
    moved = row.repeat(len(where), 1)
    moved.scatter_(1, coordinates[where // 2, None], goals.flatten()[where, None])
    return moved, where


def _finish(
    synthesis: Synthesis, classify: Classify, drawing: Drawing, layer: int, styles: Styles
) -> Logits:
    """Draw from one layer to the end, many styles on one shared beginning."""
    picture = drawing.picture
    if picture is not None:
        picture = picture.expand(len(styles), -1, -1, -1)
    drawing = Drawing(drawing.features.expand(len(styles), -1, -1, -1), picture)
    for later in range(layer, len(synthesis.convs)):
        drawing = synthesis.draw(later, drawing, styles)
    return classify(synthesis.finish(drawing).clamp(-1, 1))
