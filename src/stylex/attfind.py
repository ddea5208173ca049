"""AttFind: measure what every style coordinate does to the classifier, then select attributes.

    effects, logits = batched(score, styles, bounds(styles), coordinates=layout.searched)
    found = find(effects, logits, layout, classes=classes, bounds=bounds(styles), styles=styles)
    found.towards("sick")

Only `score: styles -> logits` is known here, so any generator with a style vector can be searched.
`one_by_one` defines the numbers; everything faster is tied to it by tests.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stylex.runs import Run, read_json, replacing, write_json
from stylex.shapes import Bounds, Effects, Logits, Score, Styles
from stylex.stylespace import Attribute, Layout, shift

Rule = Literal["cumulative", "single"]
CHANGED = 0.2  # logits: an image counts as changed above this (method.md 4.3, notebook)
TENSORS = {"bounds": "bounds", "effects": "effects", "base_logits": "logits", "styles": "styles"}
HOW = ("strength", "threshold", "rule", "source")  # fields of a search kept under "made"


@torch.no_grad()
def one_by_one(
    score: Score, styles: Styles, bounds: Bounds, *, coordinates: int, strength: float = 1.0
) -> tuple[Effects, Logits]:
    """Effect of every coordinate in both directions, one image at a time: slow and obvious.

    Args:
        score: styles to logits, with the generator's noise fixed (method.md 3, trap 10).
        styles: `[n, s]`, those of the reconstructions.
        bounds: `[2, s]`, low and high over the search images.
        coordinates: how many coordinates to search, the first ones.
        strength: share of the way to the bound; 1 lands on it.

    Returns:
        Effects `[n, coordinates, 2, k]` and the reconstructions' logits `[n, k]`, both in logits.
    """
    # method.md 4.1, notebook: the base is the reconstruction's logits, effects are changes of
    # logits. The base goes through at batch 1 too, so that an image that does not move has effect 0
    logits = torch.cat([score(style[None]) for style in styles])
    effects = logits.new_zeros(len(styles), coordinates, 2, logits.shape[1])
    for image, style in enumerate(styles):
        for coordinate in range(coordinates):
            for direction in (0, 1):
                moved = shift(style[None], coordinate, direction, bounds, strength)
                effects[image, coordinate, direction] = score(moved)[0] - logits[image]
    return effects, logits


@torch.no_grad()
def batched(
    score: Score,
    styles: Styles,
    bounds: Bounds,
    *,
    coordinates: int,
    strength: float = 1.0,
    batch: int = 256,
    progress: Callable[[int], None] | None = None,
) -> tuple[Effects, Logits]:
    """The numbers of `one_by_one`, many perturbations in one call of `score`.

    An image that already stands on the bound does not move: it is not scored, its effect is 0.

    Args:
        score, styles, bounds, coordinates, strength: as in `one_by_one`.
        batch: most style vectors in one call of `score`.
        progress: called with the number of perturbations just done, out of n * coordinates * 2.
    """
    logits = torch.cat([score(part) for part in styles.split(batch)])
    effects = logits.new_zeros(len(styles), coordinates, 2, logits.shape[1])
    moves = [(coordinate, direction) for coordinate in range(coordinates) for direction in (0, 1)]
    blocks = (x.split(batch) for x in (styles, logits, effects.flatten(1, 2)))  # views
    for here, base, block in zip(*blocks, strict=True):
        group = batch // len(here)
        for start in range(0, len(moves), group):
            some = moves[start : start + group]
            moved = torch.stack([shift(here, *move, bounds, strength) for move in some], 1)
            alive = (moved != here[:, None]).any(2)
            if alive.any():
                before = base[:, None].expand(-1, len(some), -1)[alive]
                block[:, start : start + group][alive] = score(moved[alive]) - before
            if progress:
                progress(alive.numel())
    return effects, logits


def stable(
    effects: Effects, *, size: float = 2.0, share: float = 750 / (5760 * 2 * 2)
) -> Bool[Tensor, " n"]:
    """Images that stay in the search: few of their effects are large (method.md 4.2).

    The notebook leaves an image out when more than 750 of its 5,760 x 2 x 2 effects exceed 2 logits
    in size; the count is taken here as a share, so that it scales with coordinates and classes.

    Args:
        effects: `[n, j, 2, k]`.
        size: in logits; an effect above it is large.
        share: of all effects of an image; more large ones and it is left out.
    """
    large = effects.abs() > size
    return large.sum((1, 2, 3)) <= share * effects[0].numel()


def considered(logits: Logits, *, target: int, source: int | None = None) -> Bool[Tensor, " n"]:
    """Images over which attributes towards a class are sought (method.md 4.3, notebook).

    Two classes: the images predicted as the other class. More classes, one-vs-all (no source): all
    images; one-vs-one: those predicted as the source. The label is the argmax of the logits of the
    *reconstruction*, not of the photo.

    Raises:
        ValueError: source and target are the same class.
    """
    if source == target:
        raise ValueError(f"class {target} is both source and target; give another source or none")
    labels = logits.argmax(1)
    if source is not None:
        return labels == source
    return labels != target if logits.shape[1] == 2 else torch.ones_like(labels, dtype=torch.bool)


def select(
    effects: Effects,
    logits: Logits,
    *,
    target: int,
    source: int | None = None,
    count: int = 10,
    threshold: float | None = None,
    rule: Rule = "cumulative",
) -> list[Attribute]:
    """Choose attributes that raise the target's logit, greedily (method.md 4.3).

    Each step takes the coordinate and direction with the largest mean effect, negative effects
    clipped, over the images that are not yet explained.

    Args:
        effects, logits: of the stable images.
        target: index of the class whose logit shall rise.
        source: one-vs-one: index of the class that the images are predicted as.
        count: most attributes to choose.
        threshold: logits that explain an image; by default 1.0 for two classes, 0.5 for more.
        rule: "cumulative" (notebook) adds up an image's effects and may take both directions of a
            coordinate; "single" (paper) waits for one effect as large as the threshold and takes a
            coordinate once.

    Returns:
        Attributes as chosen, effect and share over the `considered` images. Empty where no image
        is considered or nothing raises the logit.

    Raises:
        ValueError: source and target are one class, or the threshold is not above 0.
    """
    threshold = _threshold(threshold, logits.shape[1])
    effects = effects[considered(logits, target=target, source=source)]
    rises = effects[..., target].clamp(min=0)
    gains = rises.new_zeros(len(rises))
    explain = {"cumulative": torch.add, "single": torch.maximum}[rule]
    chosen = []
    while len(chosen) < count and (left := gains < threshold).any():
        means = rises[left].mean(0)
        if not means.max() > 0:  # the notebook goes on here and repeats coordinate 0
            break
        coordinate, direction = divmod(int(means.argmax()), 2)
        chosen.append(_attribute(effects, coordinate, direction, target))
        gains = explain(gains, rises[:, coordinate, direction])
        rises[:, coordinate, direction if rule == "cumulative" else slice(None)] = 0
    return chosen


def merge_binary(
    first: Sequence[Attribute], second: Sequence[Attribute], effects: Effects, logits: Logits
) -> list[Attribute]:
    """Summarise a two-class problem in one list (method.md 4.3, notebook).

    Attributes of class 1 whose coordinate is not among class 0's are turned round and joined; the
    rank is by the mean rise of class 0 plus the mean rise of class 1 in the opposite direction,
    both over *all* the images given.

    Args:
        first, second: attributes found for class 0 and for class 1.
        effects, logits: of the stable images, for two classes.

    Returns:
        Attributes towards class 0, strongest first; `turned` gives those towards class 1. One found
        for class 1 only may lower class 0: the directions of a coordinate need not mirror.
    """
    taken = {attribute.coordinate for attribute in first}
    new = [turned(a, effects, logits) for a in second if a.coordinate not in taken]
    mean = effects.mean(0)
    both = mean[..., 0] + mean[..., 1].flip(1)  # [j, 2]: effect d on class 0, 1 - d on class 1
    return sorted([*first, *new], key=lambda a: -float(both[a.coordinate, a.direction]))


def turned(attribute: Attribute, effects: Effects, logits: Logits) -> Attribute:
    """The same coordinate in the opposite direction, towards the other one of two classes.

    Its effect and share are its own, measured over the images considered for *its* target.
    """
    target = 1 - attribute.target
    images = considered(logits, target=target)
    return _attribute(effects[images], attribute.coordinate, 1 - attribute.direction, target)


def participation_ratio(effects: Float[Tensor, "n j 2"]) -> float:
    """How many moves carry a class: (sum |e|)^2 / sum e^2, mean over images (method.md 3, trap 13).

    1 where one move has all the effect, 2j where all have the same. Images that nothing moves are
    left out; 0 where nothing moves any image. The argument is `effects[..., target]`.
    """
    sizes = effects.abs().flatten(1)
    sizes = sizes[sizes.amax(1) > 0]
    ratios = sizes.sum(1).square() / sizes.square().sum(1)
    return float(ratios.sum()) / max(len(ratios), 1)


@dataclass(frozen=True, eq=False)
class Search:
    """What AttFind found, and from what.

    Args:
        classes: names, in the order of the logits.
        bounds, effects, logits, styles: of all search images, the unstable ones too.
        attributes: target by target, strongest first; two classes share one ranking.
        strength: at which the effects were measured.
        threshold, rule, source: of the selection, see `select`.
        made: date, machine, seconds, images, left_out and the like.
    """

    classes: tuple[str, ...]
    bounds: Bounds
    effects: Effects
    logits: Logits
    styles: Styles
    attributes: tuple[Attribute, ...]
    strength: float
    threshold: float
    rule: Rule
    source: int | None
    made: dict[str, Any]

    @property
    def logit_std(self) -> tuple[float, ...]:
        """Standard deviation of each class's base logit over the images: a scale for effects."""
        return tuple(self.logits.std(0, correction=0).tolist())

    def towards(self, target: int | str) -> tuple[Attribute, ...]:
        """Attributes that raise one class, strongest first; ValueError where there is none such."""
        index = class_index(self.classes, target)
        return tuple(attribute for attribute in self.attributes if attribute.target == index)

    def save(self, run: str | Path) -> None:
        """Write the search into a run directory: JSON and tensors, in place of an earlier one."""
        names = Run(run)
        tensors = {name: getattr(self, key).cpu().contiguous() for name, key in TENSORS.items()}
        # the JSON goes first and comes last: where it stands, the tensors beside it are its own
        names.search.unlink(missing_ok=True)
        with replacing(names.search_tensors) as partial:
            save_file(tensors, partial)
        about = {
            "made": self.made | {name: getattr(self, name) for name in HOW},
            "classes": self.classes,
            "logit_std": self.logit_std,
            "attributes": [asdict(attribute) for attribute in self.attributes],
        }
        write_json(names.search, about)

    @classmethod
    def load(cls, run: str | Path) -> "Search":
        """Read the search of a run directory, onto the CPU.

        Raises:
            FileNotFoundError: the run holds no search.
            ValueError: a file of it is damaged.
        """
        names = Run(run)
        if not (names.search.is_file() and names.search_tensors.is_file()):
            raise FileNotFoundError(f"{run} holds no search; run `stylex search --run {run}` first")
        about = read_json(names.search)
        try:
            tensors = load_file(names.search_tensors)
        except SafetensorError as error:
            what = f"{names.search_tensors} is not readable ({error})"
            raise ValueError(f"{what}; repeat `stylex search --run {run}`") from None
        made = about["made"]
        return cls(
            classes=tuple(about["classes"]),
            attributes=tuple(Attribute(**attribute) for attribute in about["attributes"]),
            **{key: tensors[name] for name, key in TENSORS.items()},
            **{name: made.pop(name) for name in HOW},
            made=made,
        )


def find(
    effects: Effects,
    logits: Logits,
    layout: Layout | None,
    *,
    classes: Sequence[str],
    bounds: Bounds,
    styles: Styles,
    targets: Sequence[int | str] | None = None,
    source: int | str | None = None,
    count: int = 10,
    threshold: float | None = None,
    rule: Rule = "cumulative",
    strength: float = 1.0,
    made: Mapping[str, Any] | None = None,
) -> Search:
    """From measured effects to ranked attributes: clean, select, merge (method.md 4.2 and 4.3).

    Args:
        effects, logits: what `batched` gave for `styles`, `bounds` and `strength`.
        layout: fills layer and resolution of the attributes; None leaves them unknown.
        classes: names, in the order of the logits.
        targets: classes to raise, by name or index; by default all (one-vs-one: all but source).
        source: one-vs-one: seek only over images predicted as this class.
        count, threshold, rule: of every selection, see `select`. The one list of a two-class
            problem joins two selections, so it holds up to twice the count.
        made: what else to remember: date, machine, seconds.

    Raises:
        ValueError: unknown class, source among the targets, threshold not above 0, infinite effect.
    """
    if bad := int((~effects.isfinite()).sum()):
        raise ValueError(f"{bad} effects are not finite numbers; check the classifier's logits")
    assert len(classes) == logits.shape[1], "one name for every logit"
    origin = None if source is None else class_index(classes, source)
    rest = [target for target in range(len(classes)) if target != origin]
    wanted = rest if targets is None else [class_index(classes, target) for target in targets]
    threshold = _threshold(threshold, len(classes))
    keep = stable(effects)
    clean, base = effects[keep], logits[keep]
    options = {"source": origin, "count": count, "threshold": threshold, "rule": rule}
    binary = len(classes) == 2 and origin is None  # needs both lists, whatever is wanted of them
    sought = rest if binary else wanted
    lists = {target: select(clean, base, target=target, **options) for target in sought}
    if binary:
        lists[0] = merge_binary(lists[0], lists[1], clean, base)
        lists[1] = [turned(attribute, clean, base) for attribute in lists[0]]
    return Search(
        classes=tuple(classes),
        bounds=bounds,
        effects=effects,
        logits=logits,
        styles=styles,
        attributes=tuple(_placed(a, layout) for target in wanted for a in lists[target]),
        strength=strength,
        threshold=threshold,
        rule=rule,
        source=origin,
        made={**(made or {}), "images": len(keep), "left_out": int((~keep).sum())},
    )


def class_index(classes: Sequence[str], target: int | str) -> int:
    """Index of a class given by its name or index; ValueError where there is none such."""
    if isinstance(target, str) and target in classes:
        return classes.index(target)
    if isinstance(target, int) and 0 <= target < len(classes):
        return target
    raise ValueError(f"there is no class {target!r}; choose one of {', '.join(classes)}")


def _threshold(threshold: float | None, classes: int) -> float:
    """In logits: 1.0 for two classes, 0.5 for more (method.md 4.3, notebook)."""
    if threshold is None:
        return 1.0 if classes == 2 else 0.5
    if not threshold > 0:
        raise ValueError(f"threshold {threshold} explains every image at once; give logits above 0")
    return threshold


def _attribute(effects: Effects, coordinate: int, direction: int, target: int) -> Attribute:
    """An attribute with its mean effect and share over the images given; 0 over no image."""
    rises = effects[:, coordinate, direction, target]
    images = max(len(rises), 1)
    share = int((rises > CHANGED).sum()) / images
    return Attribute(coordinate, direction, target, float(rises.sum()) / images, share)


def _placed(attribute: Attribute, layout: Layout | None) -> Attribute:
    """The attribute with its layer and resolution."""
    if layout is None:
        return attribute
    j = attribute.coordinate
    return replace(attribute, layer=layout.layer(j), resolution=layout.resolution(j))
