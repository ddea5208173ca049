"""One attribute under scrutiny: does its effect hold, where does it come from, what else moves?

Attributes come from the search images, every number here from test images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.attfind import Search, find
from stylex.augment import gaussian_blur
from stylex.chaining import won
from stylex.choosing import share_back, walked
from stylex.gates import ALIKE, artefact, attribute_gates, trusted
from stylex.looking import spread
from stylex.metrics import bootstrap_interval, rank_biased_overlap
from stylex.model import StylEx, in_batches
from stylex.shapes import Images, Logits, Styles
from stylex.stylespace import Attribute, shift_all
from stylex.subjects import Drawn, Subjects

NOISE = 0.05  # standard deviation, range [-1, 1]
BLUR = 1 / 32  # standard deviation, of the image's side


def scrutinise(
    subjects: Subjects,
    found: Search,
    *,
    count: int = 10,
    images: int = 150,
    seed: int = 0,
    back: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The evidence for and against the first attributes of every class.

    Args:
        subjects: test images.
        found: attributes of the search images.
        count: attributes of each class.
        images: most test images for each; those decided as another class than the attribute's.
        seed: of noise and resampling.
        back: what `returns` gave of the search, where that is known already.

    Returns:
        For each attribute `target`, `rank`, `coordinate`, `direction`; `effect` in logits with its
        95 % interval `low`, `high`; `flipped` share; the shares of the effect kept under `noise`,
        `blur` and by the `panel` (in standard deviations of each logit); `from_p`, the share of the
        coordinate's range that p makes; `usual` and `usual_before`, the shares of
        edited and unedited images within D's range, and `still_usual`, their ratio; `returns`,
        how often resampled searches find it; `effects` on every class; `overlap` of its difference
        map with the most alike one of another coordinate; `own_return` and `other_return` of the
        re-encoded edit, in ranges of the coordinates; `comes_back`, the share of the change of the
        picture that the model draws again (`choosing.share_back`); its `gates`, and whether it is
        `trusted` or an `artefact`.
    """
    from_p = shares_from_p(subjects)
    back = returns(found, subjects.model, seed=seed) if back is None else back
    results, maps = [], []
    for target in range(len(found.classes)):
        rows = (subjects.labels != target).nonzero().flatten()
        rows = rows[spread(len(rows), images)]
        if not len(rows):
            continue
        chosen, before = found.towards(target)[:count], _unedited(subjects, rows, seed=seed)
        for rank, attribute in enumerate(chosen, start=1):
            moved = _moved(subjects.styles[rows], found, attribute)
            edited = subjects.draw(moved)
            maps.append((edited.images - before.images).abs().mean((0, 1)))
            results.append(
                {
                    "target": target,
                    "rank": rank,
                    "coordinate": attribute.coordinate,
                    "direction": attribute.direction,
                    "from_p": from_p[attribute.coordinate].item(),
                    "returns": back["attributes"].get(attribute.key),
                    **_effect(subjects, edited, rows, target, seed=seed),
                    **_survival(subjects, edited, before, target),
                    **_reencoded(subjects, found, edited, before, attribute, others=chosen),
                }
            )
    overlaps = _overlaps(maps, [result["coordinate"] for result in results])
    for result, overlap in zip(results, overlaps, strict=True):
        gates = attribute_gates(result)
        result |= {
            "overlap": overlap,
            "gates": [gate._asdict() for gate in gates],
            "trusted": trusted(gates),
            "artefact": artefact(gates),
        }
    return results


def _effect(
    subjects: Subjects, edited: Drawn, rows: Tensor, target: int, *, seed: int
) -> dict[str, Any]:
    changes = edited.logits - subjects.redrawn.logits[rows]
    low, high = bootstrap_interval(changes[:, target], seed=seed)
    return {
        "images": len(rows),
        "effect": changes[:, target].mean().item(),
        "low": low,
        "high": high,
        "effects": changes.mean(0).tolist(),
        "flipped": (edited.labels == target).float().mean().item(),
        **_usual(subjects, edited, rows),
    }


def _usual(subjects: Subjects, edited: Drawn, rows: Tensor) -> dict[str, float | None]:
    """Shares within D's range of photos after and before the edit, and the one over the other."""
    after = subjects.usual(edited).float().mean().item()
    before = subjects.usual_unedited[rows].float().mean().item()
    ratio = after / before if before else None
    return {"usual": after, "usual_before": before, "still_usual": ratio}


@dataclass(frozen=True)
class _Unedited:
    """What every attribute of a class is compared with, asked once."""

    rows: Tensor
    images: Images
    noise: Images
    noisy: Logits
    soft: Logits
    styles: Styles  # of the images seen by the encoder again
    redrawn: Images  # as the model draws them again


def _unedited(subjects: Subjects, rows: Tensor, *, seed: int) -> _Unedited:
    images, model = subjects.redrawn.images[rows], subjects.model
    draw = torch.Generator(images.device).manual_seed(seed)
    noise = NOISE * torch.randn(images.shape, generator=draw, device=images.device)
    styles = in_batches(model.style, in_batches(model.encode, images), subjects.p[rows])
    return _Unedited(
        rows=rows,
        images=images,
        noise=noise,
        noisy=in_batches(model.classifier, images + noise),
        soft=in_batches(model.classifier, _blurred(images)),
        styles=styles,
        redrawn=in_batches(model.synthesize, styles),
    )


def _blurred(images: Images) -> Images:
    return gaussian_blur(images, BLUR * images.shape[-1])


def _survival(
    subjects: Subjects, edited: Drawn, before: _Unedited, target: int
) -> dict[str, float | None]:
    """Shares of the effect that are left under noise, under a blur, and with other judges."""
    classifier, redrawn = subjects.model.classifier, subjects.redrawn

    def effect(after: Logits, base: Logits) -> Tensor:
        return (after - base)[:, target].mean()

    whole = effect(edited.logits, redrawn.logits[before.rows])
    # the same noise on both sides, so that only the edit differs
    noisy = effect(in_batches(classifier, edited.images + before.noise), before.noisy)
    soft = effect(in_batches(classifier, _blurred(edited.images)), before.soft)
    kept: dict[str, float | None] = {
        "noise": _share(noisy, whole),
        "blur": _share(soft, whole),
        "panel": None,
    }
    if subjects.judges:
        scale, *scales = (logits[target] for logits in subjects.logit_spreads)
        moves = [
            effect(after, base[before.rows]) / its
            for after, base, its in zip(edited.judged, redrawn.judged, scales, strict=True)
        ]
        kept["panel"] = _share(torch.stack(moves).mean(), whole / scale)
    return kept


def _share(part: Tensor, whole: Tensor) -> float:
    """The part of an effect that is left; 0 where there was none to lose."""
    return (part / whole).item() if whole > 1e-6 else 0.0


def _reencoded(
    subjects: Subjects,
    found: Search,
    edited: Drawn,
    before: _Unedited,
    attribute: Attribute,
    *,
    others: Sequence[Attribute],
) -> dict[str, Any]:
    """What comes back of an edit that the encoder sees: attributes, in ranges, and the picture."""
    model, p = subjects.model, subjects.p[before.rows]
    again = in_batches(model.style, in_batches(model.encode, edited.images), p)
    redrawn = in_batches(model.synthesize, again)
    reach = (found.bounds[1] - found.bounds[0]).clamp_min(1e-8)
    moves = ((again - before.styles) / reach).mean(0)
    toward = {a.key: (2 * a.direction - 1) * moves[a.coordinate].item() for a in others}
    rest = {a: toward[a.key] for a in others if a.coordinate != attribute.coordinate}
    strongest = max(rest, key=lambda a: abs(rest[a]), default=None)
    return {
        "own_return": toward[attribute.key],
        "other_return": None if strongest is None else rest[strongest],
        "other_coordinate": None if strongest is None else strongest.coordinate,
        "comes_back": share_back(before.images, edited.images, before.redrawn, redrawn),
    }


def _overlaps(
    maps: Sequence[Float[Tensor, "h w"]], coordinates: Sequence[int]
) -> list[float | None]:
    """Cosine of each difference map with the most alike one of another coordinate."""
    if len(set(coordinates)) < 2:
        return [None] * len(maps)
    flat = torch.nn.functional.normalize(torch.stack(list(maps)).flatten(1), dim=1)
    its = torch.tensor(coordinates, device=flat.device)
    return (flat @ flat.T).masked_fill(its[:, None] == its, -1).amax(1).tolist()


def shares_from_p(subjects: Subjects) -> Float[Tensor, " s"]:
    """Of each style coordinate the share of its range that comes from its p columns (trap 11).

    The style is linear in [w ; p], so its range over the images splits into that of w alone (p at
    its mean) and that of what p adds.
    """
    model = subjects.model
    still = in_batches(model.style, subjects.w, model.mean_p.expand_as(subjects.p))
    by_w = still.amax(0) - still.amin(0)
    added = subjects.styles - still
    by_p = added.amax(0) - added.amin(0)
    return by_p / (by_p + by_w).clamp_min(1e-8)


def returns(found: Search, model: StylEx, *, draws: int = 40, seed: int = 0) -> dict[str, Any]:
    """Searches over resampled images: how much of the ranking comes back?

    Args:
        found: the search.
        model: that it is of; asked again where attributes were chosen on top of each other.
        draws: searches.
        seed: of the resampling.

    Returns:
        `attributes`: how often each one is found again; `rank_biased_overlap` of the rankings with
        the original, mean over targets and draws, and its percentiles `low` and `high`.
    """
    if not found.attributes:
        return {
            "attributes": {},
            "rank_biased_overlap": None,
            "why_rank_biased_overlap": "no attributes",
        }
    counts, overlaps = dict.fromkeys((a.key for a in found.attributes), 0), []
    draw = torch.Generator().manual_seed(seed)
    for lists in _resampled(found, model, draws, draw):
        for target, again in lists.items():
            overlaps.append(rank_biased_overlap([a.key for a in found.towards(target)], again))
            for key in counts.keys() & set(again):
                counts[key] += 1
    low, high = torch.tensor(overlaps).quantile(torch.tensor([0.025, 0.975])).tolist()
    return {
        "attributes": {key: count / draws for key, count in counts.items()},
        "rank_biased_overlap": sum(overlaps) / len(overlaps),
        "low": low,
        "high": high,
        "draws": draws,
    }


Keys = dict[int, list[tuple[int, int, int]]]  # by target, of attributes in the order of their rank


def _resampled(found: Search, model: StylEx, draws: int, draw: torch.Generator) -> Iterator[Keys]:
    """The lists of searches over images drawn with replacement.

    A chain is not walked anew: drawn images tell which move wins at each of its steps.
    """
    targets = sorted({a.target for a in found.attributes})
    count = found.made.get("count") or max(len(found.towards(t)) for t in targets)  # of before
    without = found.made.get("without", ())
    if found.rule == "subset":
        chains = walked(model, found, targets, count=count, barred=without)
        for _ in range(draws):
            yield {
                t: list(dict.fromkeys((t, *move) for move in won(found, t, steps, draw)))
                for t, steps in chains.items()
            }
        return
    options = {"classes": found.classes, "bounds": found.bounds, "styles": found.styles}
    options |= {"threshold": found.threshold, "rule": found.rule, "source": found.source}
    options |= {"count": count, "without": without, "targets": targets}
    images = len(found.effects)
    for _ in range(draws):
        rows = torch.randint(images, (images,), generator=draw)
        again = find(found.effects[rows], found.logits[rows], None, **options)
        yield {t: [a.key for a in again.towards(t)] for t in targets}


def counterparts(
    subjects: Subjects, found: Search, others: Subjects, other: Search, *, count: int = 10
) -> dict[str, Any]:
    """Which attributes another training found too, by what they change in the same photos.

    Coordinates of two trainings do not correspond, their pictures do: attributes towards one class
    are paired greedily by the cosine of their mean signed changes of the image.

    Args:
        subjects, found: one training, and what was found on it.
        others, other: another training around the same classifier, seen on the same photos.
        count: attributes of each class.

    Returns:
        `alike`: cosine of each attribute with its counterpart, class by class in order of rank;
        `share`: of those with a cosine above 0.8 [O].
    """
    alike: dict[str, list[float]] = {}
    for target, name in enumerate(found.classes):
        if (subjects.labels == target).all() or (others.labels == target).all():
            continue  # nothing to move towards it
        ours = _mean_changes(subjects, found, target, count)
        theirs = _mean_changes(others, other, target, count)
        alike[name] = _paired(ours @ theirs.T)
    every = [value for values in alike.values() for value in values]
    share = sum(value > ALIKE for value in every) / len(every) if every else None
    return {"alike": alike, "share": share}


def _mean_changes(
    subjects: Subjects, found: Search, target: int, count: int
) -> Float[Tensor, "m d"]:
    """Mean change of the image under each attribute, each of length 1."""
    rows = (subjects.labels != target).nonzero().flatten()
    before, styles = subjects.redrawn.images[rows], subjects.styles[rows]
    changes = [
        (in_batches(subjects.model.synthesize, _moved(styles, found, a)) - before).mean(0)
        for a in found.towards(target)[:count]
    ]
    flat = torch.stack(changes).flatten(1) if changes else before.new_zeros(0, before[0].numel())
    return torch.nn.functional.normalize(flat, dim=1)


def _paired(cosines: Float[Tensor, "m o"]) -> list[float]:
    """The best partner of each row, no partner twice; 0 where none is left."""
    left, best = cosines.clone(), torch.zeros(len(cosines))
    for _ in range(min(left.shape)):
        row, column = divmod(int(left.argmax()), left.shape[1])
        best[row] = left[row, column]
        left[row], left[:, column] = -torch.inf, -torch.inf
    return best.tolist()


def _moved(styles: Styles, found: Search, attribute: Attribute) -> Styles:
    """Styles under an attribute, as strongly as it was searched."""
    return shift_all(styles, [attribute], found.bounds, found.strength)
