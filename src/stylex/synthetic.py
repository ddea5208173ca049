"""Planted rules, and a generator made by hand: what a search should find is known beforehand.

rule = draw_rule(seed=0)                              # two factors of the leaves, with signs
labels = rule.labels(LEAVES.sample(1000, generator))  # what a classifier is to learn
made = HandMade(LEAVES, classify)                     # coordinate j drives factor j exactly
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from stylex.scenes import LEAVES, Factors, Scene
from stylex.shapes import Images, Logits, Styles
from stylex.stylespace import Layout

CLASSES = ("no", "yes")
Kind = Literal["sum", "and", "xor"]


@dataclass(frozen=True)
class Rule:
    """Which factors decide the label, and how. Every kind is balanced on uniform factors.

    Args:
        scene: whose factors.
        deciding: columns of its factor table.
        signs: +1 where more of the factor speaks for "yes", -1 where less does.
        kind: "sum", the signed sum is above its middle; "and", every signed factor is above a
            common threshold; "xor", an odd number of signed factors is above its middle.
        nuisance: a factor that decides nothing but goes together with the label.
        correlation: of the label with whether the nuisance is above its middle, 0 to 1.

    Raises:
        ValueError: another kind, another number of signs, a column that the scene has not, or a
            nuisance that decides.
    """

    scene: Scene
    deciding: tuple[int, ...]
    signs: tuple[int, ...]
    kind: Kind = "sum"
    nuisance: int | None = None
    correlation: float = 0.0

    def __post_init__(self) -> None:
        """Check at the door."""
        if self.kind not in get_args(Kind):
            raise ValueError(f"got a rule of kind {self.kind!r}; give sum, and or xor")
        columns = set(self.deciding) & set(range(len(self.scene.factors)))
        if not len(columns) == len(self.deciding) == len(self.signs) > 0:
            raise ValueError(
                f"got deciding={self.deciding} and signs={self.signs}; give different columns "
                f"below {len(self.scene.factors)} and one sign for each"
            )
        if not 0 <= self.correlation <= 1 or self.nuisance in self.deciding:
            raise ValueError(
                f"got nuisance={self.nuisance} at correlation={self.correlation}; give a factor "
                "that does not decide, and a correlation from 0 to 1"
            )

    @property
    def monotone(self) -> bool:
        """Whether each factor speaks for one class, whatever the others are."""
        return self.kind != "xor"

    @property
    def threshold(self) -> float:
        """Of "and": m uniform factors are all above t with probability (1 - t)^m = 1/2."""
        return 1 - 0.5 ** (1 / len(self.deciding))

    def margin(self, factors: Factors) -> Float[Tensor, " n"]:
        """How far an image is from the other label, in units of a factor; "yes" where above 0."""
        signs = factors.new_tensor(self.signs)
        centred = factors[:, list(self.deciding)] - 0.5
        if self.kind == "sum":
            return centred @ signs
        if self.kind == "and":
            return (centred * signs + 0.5).amin(1) - self.threshold
        return -(-2 * centred * signs).prod(1)  # a minus for each factor above its middle

    def labels(self, factors: Factors) -> Int[Tensor, " n"]:
        """1 ("yes") or 0 ("no") for each row."""
        return (self.margin(factors) > 0).long()

    def sample(self, n: int, generator: torch.Generator) -> Factors:
        """Factors as `Scene.sample` draws them, the nuisance tied to the label.

        In as large a share of the images as the correlation says, the nuisance stands in the half
        of its range that belongs to the label; each factor stays uniform.
        """
        factors = self.scene.sample(n, generator)
        if self.nuisance is not None:
            tied = torch.rand(n, generator=generator) < self.correlation
            free = factors[:, self.nuisance]
            bound = (free + self.labels(factors)) / 2
            factors[:, self.nuisance] = torch.where(tied, bound, free)
        return factors

    def __str__(self) -> str:
        """The rule in words, as a table shows it."""
        words = [
            f"{'more' if sign > 0 else 'less'} {self.scene.factors[k]}"
            for k, sign in zip(self.deciding, self.signs, strict=True)
        ]
        said = (" and " if self.kind == "and" else ", ").join(words)
        said = "an odd number of: " * (self.kind == "xor") + said
        if self.nuisance is None:
            return said
        return f"{said} ({self.scene.factors[self.nuisance]} goes along: {self.correlation:g})"


def draw_rule(
    seed: int,
    *,
    scene: Scene = LEAVES,
    count: int = 2,
    kind: Kind = "sum",
    correlation: float = 0.0,
) -> Rule:
    """Plant a rule: distinct random factors with random signs, and perhaps a nuisance beside them.

    Raises:
        ValueError: there are not so many factors.
    """
    most = len(scene.factors) - bool(correlation)
    if not 1 <= count <= most:
        raise ValueError(f"got count={count} deciding factors; give 1 to {most}")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(scene.factors), generator=generator).tolist()
    signs = (2 * torch.randint(2, (count,), generator=generator) - 1).tolist()
    nuisance = order[count] if correlation else None
    return Rule(scene, tuple(order[:count]), tuple(signs), kind, nuisance, correlation)


# --- a generator without a network ---------------------------------------------------------------


@dataclass(frozen=True)
class HandMade:
    """A generator made by hand: style coordinate j drives one factor and nothing else.

    A factor that several coordinates drive is their mean; one that none drives stays at its middle.

    Args:
        scene: renders factors.
        classify: images to logits.
        drives: the factor of each coordinate; by default coordinate j drives factor j.
        resolution: side in pixels.
    """

    scene: Scene
    classify: Callable[[Images], Logits]
    drives: tuple[int, ...] = ()
    resolution: int = 32

    @property
    def order(self) -> tuple[int, ...]:
        """The factor of each coordinate."""
        return self.drives or tuple(range(len(self.scene.factors)))

    @property
    def layout(self) -> Layout:
        """All coordinates in one layer."""
        return Layout((len(self.order),), (self.resolution,))

    def styles(self, factors: Factors) -> Styles:
        """The perfect encoder."""
        return factors[:, list(self.order)]

    def factors(self, styles: Styles) -> Factors:
        """What the coordinates make of the factors."""
        which = functional.one_hot(torch.tensor(self.order), len(self.scene.factors))
        which = which.to(styles)
        count = which.sum(0)
        return torch.where(count > 0, styles @ which / count.clamp_min(1), 0.5)

    def synthesize(self, styles: Styles) -> Images:
        """Draw styles `[n, s]`."""
        return self.scene.render(self.factors(styles), resolution=self.resolution)

    def score(self, styles: Styles) -> Logits:
        """C(G(s)): all that AttFind needs."""
        return self.classify(self.synthesize(styles))
