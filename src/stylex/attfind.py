"""AttFind: measure what every style coordinate does to the classifier, then select attributes.

    effects, logits = batched(score, styles, bounds(styles), coordinates=layout.searched)
    found = find(effects, logits, layout, classes=classes, bounds=bounds(styles), styles=styles)
    found.towards("sick")

Only `score: styles -> logits` is known here, so any generator with a style vector can be searched.
`one_by_one` defines the numbers; everything faster is tied to it by tests.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from stylex.runs import Run, age, outgrown, read_json, read_tensors, replacing, write_json
from stylex.selection import Rule, merge_binary, select, stable, threshold_of, turned
from stylex.shapes import Bounds, Effects, Logits, Score, Styles
from stylex.stylespace import Attribute, Layout, shift

TENSORS = {"bounds": "bounds", "effects": "effects", "base_logits": "logits", "styles": "styles"}
# keys of "made" that tell of the list, not of the effects
OF_THE_LIST = ("certificate", "without", "candidates", "comes_back", "rest_by")
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


@dataclass(frozen=True, eq=False)
class Search:
    """What AttFind found, and from what.

    Args:
        classes: names, in the order of the logits.
        bounds, effects, logits, styles: of all search images, the unstable ones too.
        attributes: target by target, in the order of their rank; two classes share one ranking.
        strength: at which the effects were measured.
        threshold, rule, source: of the selection, see `select` and `choosing`.
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
    rule: str
    source: int | None
    made: dict[str, Any]

    @property
    def logit_std(self) -> tuple[float, ...]:
        """Standard deviation of each class's base logit over the images: a scale for effects."""
        return tuple(self.logits.std(0, correction=0).tolist())

    def towards(self, target: int | str) -> tuple[Attribute, ...]:
        """Attributes that raise one class, by rank; ValueError where there is no such class."""
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
            "made": self.made | {name: getattr(self, name) for name in HOW} | age(names),
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
            ValueError: a file of it is damaged, or the run has been trained further since.
        """
        names = Run(run)
        if not (names.search.is_file() and names.search_tensors.is_file()):
            raise FileNotFoundError(f"{run} holds no search; run `stylex search --run {run}` first")
        about = read_json(names.search)
        again = f"repeat `stylex search --run {run}`"
        tensors = read_tensors(names.search_tensors, advice=again)
        try:
            found = cls(
                classes=tuple(about["classes"]),
                attributes=tuple(Attribute(**attribute) for attribute in about["attributes"]),
                **{key: tensors[name] for name, key in TENSORS.items()},
                **{name: about["made"].pop(name) for name in HOW},
                made=about["made"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{names.search} lacks a part ({error}); {again}") from None
        if says := outgrown(names):
            raise ValueError(says)
        return found


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
    without: Collection[int] = (),
    among: Collection[int] | None = None,
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
        without: coordinates that must not become attributes.
        among: the only ones that may, where the effects of others were foretold; None for all.
        made: what else to remember: date, machine, seconds.

    Raises:
        ValueError: unknown class, source among the targets, count below 1, threshold not above 0,
            infinite effect.
    """
    if count < 1:
        raise ValueError(f"count is {count}; wanted 1 attribute or more, raise it")
    if bad := sum(int((~row.isfinite()).sum()) for row in effects):
        raise ValueError(f"{bad} effects are not finite numbers; check the classifier's logits")
    assert len(classes) == logits.shape[1], "one name for every logit"
    origin = None if source is None else class_index(classes, source)
    rest = [target for target in range(len(classes)) if target != origin]
    wanted = rest if targets is None else [class_index(classes, target) for target in targets]
    threshold = threshold_of(threshold, len(classes))
    keep = stable(effects)
    barred = torch.ones(effects.shape[1], dtype=torch.bool)
    barred[slice(None) if among is None else list(among)] = False
    barred[list(without)] = True
    clean, base = effects, logits  # the table may be large: it is copied only where it must be
    if barred.any() or not keep.all():
        clean, base = effects[keep], logits[keep]
        clean[:, barred] = 0
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
        attributes=tuple(placed(a, layout) for target in wanted for a in lists[target]),
        strength=strength,
        threshold=threshold,
        rule=rule,
        source=origin,
        made={
            **(made or {}),
            "count": count,
            "images": len(keep),
            "left_out": int((~keep).sum()),
            **({"without": sorted(without)} if without else {}),
        },
    )


def find_again(
    found: Search, layout: Layout | None, *, target: int | str | None = None, **options: Any
) -> Search:
    """Select from effects that were measured: other classes, thresholds, rules, at once.

    Of a fast search only coordinates that it measured on all images are chosen, and the certificate
    says so: it looked for others under its own options, not under these.

    Args:
        found: a search of any options.
        layout: as for `find`.
        target: class whose attributes are wanted, by name or index; every class by default.
        options: `source`, `count`, `threshold`, `rule`, `without` of `find`.
    """
    given = {n: getattr(found, n) for n in ("classes", "bounds", "styles", "strength")}
    made = {n: said for n, said in found.made.items() if n not in OF_THE_LIST}
    if (among := made.get("measured")) is not None:
        says = (
            f"Chosen again among the {len(among)} coordinates that the fast search measured on all "
            "images; the others were not looked at: for those search without --reuse."
        )
        made["certificate"] = {"sure": False, "says": says}
    given |= {"targets": None if target is None else [target], "among": among, "made": made}
    return find(found.effects, found.logits, layout, **given, **options)


def class_index(classes: Sequence[str], target: int | str) -> int:
    """Index of a class given by its name or index; ValueError where there is none such."""
    if isinstance(target, str) and target in classes:
        return classes.index(target)
    if isinstance(target, int) and 0 <= target < len(classes):
        return target
    raise ValueError(f"there is no class {target!r}; choose one of {', '.join(classes)}")


def placed(attribute: Attribute, layout: Layout | None) -> Attribute:
    """The attribute with its layer and resolution."""
    if layout is None:
        return attribute
    j = attribute.coordinate
    return replace(attribute, layer=layout.layer(j), resolution=layout.resolution(j))
