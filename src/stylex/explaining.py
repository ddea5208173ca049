"""Explaining: a model and images in, attributes and answers about one image out.

found = stylex.search(model, images, target="sick")
answer = stylex.explain(model, images[:1], found, target="sick")
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from stylex import metrics, runs, stylespace, sweep
from stylex.attfind import TENSORS, Search, class_index, find
from stylex.chaining import chain_cost
from stylex.choosing import Choice, on_top, redrawing, sought
from stylex.counterfactual import Step, independent, joint, subset
from stylex.data import ImageSet
from stylex.flips import STRENGTHS
from stylex.folding import without_norms
from stylex.ledger import Ledger, key_of
from stylex.looking import TEST_PIXELS, spread
from stylex.losses import Distance
from stylex.model import StylEx, in_batches
from stylex.photos import Bytes, as_unit
from stylex.rehearsing import cost
from stylex.rounding import exact_products
from stylex.screening import quick
from stylex.selection import threshold_of
from stylex.shapes import Images, Styles
from stylex.stylespace import shift_all

Mode = Literal["auto", "exact", "fast", "bf16"]
MANY = 250_000  # moves of images: more are foretold first, see `screening`
POOR = 1.5  # a reconstruction whose L1 is this many times the usual one is called poor


@dataclass(frozen=True)
class Explanation:
    """The answer for one image, with its doubts.

    Args:
        classes: names, in the order of the logits.
        target: index of the class that is asked for.
        photo, reconstruction: `[1, c, h, w]`.
        photo_logits, reconstruction_logits: one number per class.
        l1: mean absolute difference of photo and reconstruction, range [-1, 1].
        perceptual: perceptual distance of the two, None where it was not measured.
        independent: the attributes that change this image most, each alone.
        subset: the smallest greedy set, in order, until the decision flips.
        alone, together: `[m, c, h, w]` images after each step of the one and of the other.
        warnings: what speaks against trusting this answer, in words.
    """

    classes: tuple[str, ...]
    target: int
    photo: Float[Tensor, "1 c h w"]
    reconstruction: Float[Tensor, "1 c h w"]
    photo_logits: tuple[float, ...]
    reconstruction_logits: tuple[float, ...]
    l1: float
    perceptual: float | None
    independent: tuple[Step, ...]
    subset: tuple[Step, ...]
    alone: Float[Tensor, "independent c h w"]
    together: Float[Tensor, "subset c h w"]
    warnings: tuple[str, ...]

    @property
    def flipped_at(self) -> int | None:
        """How many attributes turn the decision: 0 where it is the target already, None if none."""
        if _argmax(self.reconstruction_logits) == self.target:
            return 0
        return next((i for i, step in enumerate(self.subset, start=1) if step.flipped), None)


@exact_products()
def search(
    model: StylEx,
    images: Images | Bytes,
    *,
    target: str | int | None = None,
    source: str | int | None = None,
    count: int = 10,
    strength: float = 1.0,
    threshold: float | None = None,
    rule: Choice = "subset",
    mode: Mode = "auto",
    ledger: Ledger | None = None,
    say: Callable[[str], None] | None = None,
) -> Search:
    """AttFind over images that were not trained on (method.md 4).

    Args:
        model: a trained StylEx; the search runs where it is, its tensors come back on the CPU.
        images: `[n, c, h, w]` at the model's resolution, in [-1, 1] or, in a quarter of the memory,
            bytes.
        target: class whose attributes are wanted, by name or index; every class by default.
        source: one-vs-one: only images predicted as this class are to be explained.
        count: attributes for each class.
        strength: 1 moves a coordinate to the bound of its range over the images.
        threshold: gain in logits at which an image counts as explained; 1.0 for two classes, else
            0.5.
        rule: "subset" measures every step on top of the ones before, by moves that the model draws
            again (`choosing`); of effects that were measured alone: "cumulative" (the notebook's),
            "single" (the paper's own statement) or "share" (of the images that a move changes).
        mode: "exact" measures every move of every image; "fast" foretells all by a backward pass
            and measures what may be chosen (`screening`), "bf16" foretells them by measuring each
            in bf16; "auto" is exact up to 250,000 moves, fast above.
        ledger: where finished parts are kept until the search is whole, and by how many processes;
            it also knows the memory to keep within and whom to tell of the progress.
        say: called with the mode and what it will cost, before it starts.

    Raises:
        ValueError: images of another size or fewer than two, an unknown class, no count, or a
            strength that is not above 0.
    """
    _check(model, images, count, strength)
    if len(images) < 2:
        raise ValueError(
            f"{len(images)} images came, a coordinate has a range only over two or more; give more"
        )
    began, ledger, net = time.monotonic(), ledger or Ledger(), model.generator.synthesis
    styles = _styles(model, images, strength, ledger)
    bounds, device = stylespace.bounds(styles), styles.device
    origin = None if source is None else class_index(model.classes, source)
    targets = sought(model.classes, target, origin)
    if target is not None and origin == class_index(model.classes, target):
        raise ValueError(f"class {target} is both source and target; give another source or none")
    level, chained = threshold_of(threshold, len(model.classes)), rule == "subset"
    selection = {"source": origin, "count": count, "threshold": level}
    selection |= {"rule": "cumulative" if chained else rule}
    finish = partial(
        find,
        layout=model.layout,
        classes=model.classes,
        targets=None if target is None else [target],
        bounds=bounds,
        styles=styles,
        strength=strength,
        **selection,
    )
    classify = without_norms(model.classifier, as_unit(images[:2]).to(device))
    fitting = partial(sweep.batch_within, ledger.memory / 8, net, classify, styles[:1])
    batch = int(ledger.once("batch", lambda: torch.tensor(fitting())))
    mode, reason = _decided(mode, 2 * model.layout.searched * len(images))
    measured, options = (net, classify, styles, bounds), {"strength": strength, "batch": batch}
    if fast := mode != "exact":
        options |= {"targets": targets, **selection, "rounded": mode == "bf16"}
    chain = chain_cost(len(images), len(targets), count) if chained else (0, 0)
    if say and ledger.rank == 0:
        say(f"{mode} ({reason}): {cost(measured, ledger, fast, then=chain, **options)}")
    if fast:
        found = quick(*measured, finish=finish, ledger=ledger, **options)
    else:
        effects, logits = sweep.measure(*measured, ledger=ledger, **options)
        found = finish(effects, logits.to(effects.device))  # a large table stays on the CPU
    if chained:
        own = {"target": target, "count": count, "batch": batch, "ledger": ledger}
        found = on_top(found, model.layout, net, classify, redraw=redrawing(model), **own)
    seconds = round(time.monotonic() - began, 1)
    made = {"mode": mode, "date": runs.now(), "machine": runs.machine(), "seconds": seconds}
    on_cpu = {name: getattr(found, name).cpu() for name in TENSORS.values()}
    return replace(found, made=found.made | made, **on_cpu)


def _styles(model: StylEx, images: Images | Bytes, strength: float, ledger: Ledger) -> Styles:
    """Styles of the images, encoded once for all processes; the ledger is bound to this search."""
    device = model.mean_p.device

    def encoded(some: Images | Bytes) -> Styles:
        return model.styles(as_unit(some).to(device))

    about = f"{runs.stylex_version()} {model.classifier.hash} {strength} {ledger.memory}"
    ledger.bind(key_of(about, [*model.own_state().values(), images]))
    encode = partial(in_batches, encoded, images, batch=model.at_once)
    return ledger.once("styles", encode).to(device)


def _decided(mode: Mode, moves: int) -> tuple[Mode, str]:
    """The mode to search in, and why."""
    if mode != "auto":
        return mode, "as asked"
    many = moves > MANY
    reason = f"{moves:,} moves are {'more' if many else 'no more'} than {MANY:,}"
    return "fast" if many else "exact", reason


@torch.no_grad()
@exact_products()
def explain(
    model: StylEx,
    image: Float[Tensor, "1 c h w"],
    found: Search,
    *,
    target: str | int,
    count: int = 5,
    strength: float | None = None,
    distance: Distance | None = None,
    usual_l1: float | None = None,
) -> Explanation:
    """What would have to change in one image for the classifier to decide for the target.

    Args:
        model: the StylEx that was searched.
        image: one photo at the model's resolution.
        found: attributes and bounds.
        target: class to move to, by name or index.
        count: most attributes to show alone, and twice as many to combine.
        strength: 1 moves a coordinate to its bound; by default that of the search.
        distance: perceptual distance to report, if any.
        usual_l1: the model's L1 on test images, to call this reconstruction poor.

    Raises:
        ValueError: not one image, another size, an unknown class, no attributes for it, no count,
            or a strength that is not above 0.
    """
    strength = found.strength if strength is None else strength
    _check(model, image, count, strength)
    if len(image) != 1:
        raise ValueError(f"{len(image)} images came; wanted one at a time")
    index = class_index(model.classes, target)
    attributes = found.towards(index)
    if not attributes:
        raise ValueError(
            f"the search holds no attributes towards {model.classes[index]}; repeat "
            "`stylex search`, for every class and on more images"
        )
    image = image.to(model.mean_p.device)
    styles = model.styles(image)
    redrawn = model.synthesize(styles)
    options = {"target": index, "strength": strength}
    alone = independent(model.score, styles, found.bounds, attributes, count=count, **options)
    chain = subset(model.score, styles, found.bounds, attributes, count=2 * count, **options)

    def drawn(chains: Sequence[Sequence[Step]]) -> Images:
        moved = [
            shift_all(styles, [s.attribute for s in chain], found.bounds, strength)
            for chain in chains
        ]
        return model.synthesize(torch.cat(moved)) if moved else redrawn[:0]

    photo_logits, redrawn_logits = model.classifier(image)[0], model.classifier(redrawn)[0]
    error = metrics.l1(image, redrawn).item()
    return Explanation(
        classes=model.classes,
        target=index,
        photo=image,
        reconstruction=redrawn,
        photo_logits=tuple(photo_logits.tolist()),
        reconstruction_logits=tuple(redrawn_logits.tolist()),
        l1=error,
        perceptual=None if distance is None else distance(image, redrawn).item(),
        independent=tuple(alone),
        subset=tuple(chain),
        alone=drawn([[step] for step in alone]),
        together=drawn([chain[: i + 1] for i in range(len(chain))]),
        warnings=tuple(_doubts(model.classes, photo_logits, redrawn_logits, error, usual_l1)),
    )


@exact_products()
def sufficiency(
    model: StylEx, images: Images, found: Search, *, count: int = 10
) -> dict[str, dict[str, Any]]:
    """Share of images whose decision flips under the top attributes together (method.md 6).

    Per ordered pair of classes, over images whose reconstruction is decided as the first; a pair
    without such images is left out.

    Returns:
        `{"from->to": {"share", "images", "low", "high", "random"}}`: the share, Wilson's 95 %
        interval, and the share under as many random coordinates, the floor.
    """
    some = partial(in_batches, batch=model.at_once)
    styles = some(model.styles, images.to(model.mean_p.device))
    labels = some(model.score, styles).argmax(1)
    table, ends = {}, {"bounds": found.bounds, "strength": found.strength}
    for target, name in enumerate(model.classes):
        chosen = found.towards(target)[:count]
        chance = metrics.random_attributes(
            len(chosen), coordinates=model.layout.searched, target=target
        )
        for origin in (k for k in range(len(model.classes)) if k != target):
            rows = styles[labels == origin]
            if not len(rows):
                continue
            flips, floor = (
                some(partial(joint, model.score, attributes=a, **ends), rows).argmax(1).eq(target)
                for a in (chosen, chance)
            )
            low, high = metrics.interval(int(flips.sum()), len(rows))
            table[f"{model.classes[origin]}->{name}"] = {
                "share": flips.float().mean().item(),
                "images": len(rows),
                "low": low,
                "high": high,
                "random": floor.float().mean().item(),
            }
    return table


def add_sufficiency(
    model: StylEx,
    photos: ImageSet | None,
    found: Search,
    run: str | Path,
    *,
    why: str = "",
) -> None:
    """Put `sufficiency10` into the run's `metrics.json`, in place of an earlier search's.

    What was evaluated of attributes that are no longer there goes: it is of another search.

    Args:
        model: the StylEx that was searched.
        photos: test images, of which as many as fit are taken; None where they are gone.
        found: the search.
        run: the run directory.
        why: there are no photos.
    """
    path = runs.Run(run).metrics
    table = runs.read_json(path) if path.is_file() else {}
    here = {a.key for a in found.attributes}
    tried = {(a["target"], a["coordinate"], a["direction"]) for a in table.get("attributes") or ()}
    then = (table.get("strength") or {}).get("strengths")  # which are around that of the search
    other = bool(then) and then[STRENGTHS.index(1.0)] != found.strength
    if not tried or not tried <= here or other:
        table = {name: group for name, group in table.items() if name not in runs.EVALUATED}
    table |= {"sufficiency10": None, "why_sufficiency10": why}
    if photos is not None:
        some = photos.batch(spread(len(photos), TEST_PIXELS // model.resolution**2))
        table["sufficiency10"] = sufficiency(model, some, found)
        del table["why_sufficiency10"]
    runs.write_json(path, table)


def _check(model: StylEx, images: Images | Bytes, count: int, strength: float) -> None:
    if count < 1:
        raise ValueError(f"count is {count}; wanted 1 attribute or more, raise it")
    if not 0 < strength < inf:
        raise ValueError(f"strength is {strength}; wanted a number above 0, 1 is to the bound")
    model.check(images)


def _doubts(
    classes: Sequence[str], photo: Tensor, redrawn: Tensor, error: float, usual: float | None
) -> list[str]:
    """An explanation of a bad reconstruction must say so (method.md 5)."""
    says = []
    seen, drawn = int(photo.argmax()), int(redrawn.argmax())
    if seen != drawn:
        says.append(
            f"The classifier calls the photo {classes[seen]} but its reconstruction "
            f"{classes[drawn]}: what follows explains the reconstruction, not the photo."
        )
    if usual is not None and error > POOR * usual:
        says.append(
            f"The reconstruction is poor: its error is {error:.3f}, on test images it is "
            f"{usual:.3f}; details that matter in the photo may be missing."
        )
    return says


def _argmax(logits: Sequence[float]) -> int:
    return max(range(len(logits)), key=logits.__getitem__)
