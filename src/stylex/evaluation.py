"""Evaluating: everything that can be measured about a searched model, each number with its floor.

metrics = stylex.evaluate(model, test_images, found, train_images=images)

Attributes come from the search images, every rate from the test images; nothing here was trained
or searched on them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stylex import flips, metrics, runs
from stylex.attfind import Search
from stylex.choosing import beside, check_list
from stylex.classifier import Classifier
from stylex.gates import model_verdicts
from stylex.looking import FITTED, Features, Likeness, noise_w, spread
from stylex.losses import Distance, kl
from stylex.model import StylEx, in_batches
from stylex.rounding import exact_products
from stylex.scrutiny import counterparts, returns, scrutinise
from stylex.selection import participation_ratio
from stylex.shapes import Images, Latents, Logits, Probabilities
from stylex.subjects import Subjects

Says = Callable[[str], object]


@torch.no_grad()
@exact_products()
def evaluate(
    model: StylEx,
    images: Images,
    found: Search,
    *,
    train_images: Float[Tensor, "m c _ _"],
    judges: Sequence[Classifier] = (),
    features: Features | None = None,
    features_name: str = "none",
    distance: Distance | None = None,
    distance_name: str = "none",
    count: int = 10,
    seed: int = 0,
    progress: Says | None = None,
) -> dict[str, Any]:
    """The evidence about a model and what a search found on it.

    Args:
        model: a trained StylEx.
        images: `[n, c, h, w]` test images.
        found: the search, made on other images.
        train_images: what PCA and the reference of the distances of sets are fitted on.
        judges: the oracle panel: classifiers of the same classes, trained on other images.
        features: of images, for distances of sets.
        features_name: never left out where such a distance is shown.
        distance: perceptual distance of pairs.
        distance_name: as it stands in results.
        count: attributes of each class.
        seed: of noise, random coordinates and resampling.
        progress: called with what is measured next.

    Returns:
        The groups `evaluated`, `substrate`, `agreement`, `panel`, `sufficiency`,
        `sufficiency_percentile`, `strength`, `subset`, `necessity`, `participation_ratio`,
        `attributes`, `stability` and `verdicts` of `metrics.json`; docs/evidence.md says how to
        read each.

    Raises:
        ValueError: images of another size, or fewer than ten; a list of before.
    """
    check(model, images, found)
    began, tell = time.monotonic(), progress or (lambda _says: None)
    tell("test images")
    subjects = Subjects(model, images, judges=judges, distance=distance)
    known = train_images[spread(len(train_images), FITTED)].to(subjects.photos.device)
    found = beside(model, found)
    tell("reconstruction beside its floors")
    table: dict[str, Any] = {
        "substrate": substrate(subjects, known, features, seed=seed)
        | {"features": features_name, "perceptual_kind": distance_name},
        "agreement": where_the_class_sits(subjects),
        "panel": panel(subjects),
    }
    tell("attributes, one by one")
    stability = returns(found, model, seed=seed)
    table["attributes"] = scrutinise(subjects, found, count=count, seed=seed, back=stability)
    tell("flips")
    counted = without_artefacts(found, table["attributes"])
    wide = flips.percentile_bounds(found.styles)
    options: dict[str, Any] = {"count": count, "seed": seed}
    some: dict[str, Any] = options | {"most": flips.LOOKED_AT, "floors": False}
    table |= {
        "sufficiency": flips.sufficiency(subjects, counted, found.bounds, **options),
        "sufficiency_percentile": flips.sufficiency(subjects, counted, wide, **some),
        "strength": flips.by_strength(subjects, counted, count=count),
        "subset": flips.smallest_sets(subjects, counted, count=count),
        "necessity": flips.necessity(subjects, counted, **options),
        "participation_ratio": {
            name: participation_ratio(found.effects[..., k]) for k, name in enumerate(found.classes)
        },
    }
    table["panel"] |= on_edits(table["sufficiency"], table["panel"])
    table["stability"] = {k: v for k, v in stability.items() if k != "attributes"}
    table["verdicts"] = [gate._asdict() for gate in model_verdicts(table)]
    table["evaluated"] = {
        "date": runs.now(),
        "machine": runs.machine(),
        "seconds": round(time.monotonic() - began, 1),
        "images": len(images),
        "seed": seed,
    }
    return table


@torch.no_grad()
@exact_products()
def against(
    model: StylEx,
    found: Search,
    other: StylEx,
    other_found: Search,
    images: Images,
    *,
    count: int = 10,
) -> dict[str, Any]:
    """Stability over trainings: which attributes does another seed find too?

    Args:
        model, found: the run under test and its search.
        other, other_found: a run around the same classifier, with another seed, and its search.
        images: test images; both are seen on the same ones.
        count: attributes of each class.

    Returns:
        `share` and `alike` of `scrutiny.counterparts`, and as floor the same with a search of the
        other run whose coordinates were drawn at random (`random_share`).

    Raises:
        ValueError: the runs explain different classifiers or draw at different sizes.
    """
    if model.classifier.hash != other.classifier.hash:
        raise ValueError("the two runs explain different classifiers; give one with another seed")
    for one in (model, other):
        check(one, images)
    ours, theirs = Subjects(model, images), Subjects(other, images)
    chance = (
        a
        for k in range(len(found.classes))
        for a in metrics.random_attributes(
            count, coordinates=other.layout.searched, target=k, seed=k
        )
    )
    random = replace(other_found, attributes=tuple(chance))
    floor = counterparts(ours, found, theirs, random, count=count)
    return counterparts(ours, found, theirs, other_found, count=count) | {
        "random_share": floor["share"]
    }


def without_artefacts(found: Search, evidence: Sequence[Mapping[str, Any]]) -> Search:
    """The search without attributes that are artefacts or were never tried.

    Only the others count towards a flip.
    """
    good = {(a["target"], a["coordinate"], a["direction"]) for a in evidence if not a["artefact"]}
    kept = (a for a in found.attributes if a.key in good)
    return replace(found, attributes=tuple(kept))


def substrate(
    subjects: Subjects, known: Float[Tensor, "m c h w"], features: Features | None, *, seed: int
) -> dict[str, Any]:
    """How good the pictures are that all else rests on, beside what trivial ones score.

    Returns:
        `l1` and `perceptual` of reconstructions and of PCA with 128 and 512 components; `kid` and
        `frechet64` of reconstructions, noise samples and PCA-128 against as many train photos,
        and of the test photos themselves (`real_halves`); `latent_gap` of E(x) and M(z).
    """
    photos, n = subjects.photos, len(subjects.photos)
    w = noise_w(subjects.model, n, seed=seed)
    fitted = metrics.PCA(known, components=512)
    drawn = {
        "": subjects.redrawn.images,
        "_pca128": fitted.reconstruct(photos, components=128),
        "_pca512": fitted.reconstruct(photos),
    }
    table: dict[str, Any] = {"latent_gap": metrics.latent_gap(subjects.w, w)}
    for name, images in drawn.items():
        table[f"l1{name}"] = metrics.l1(photos, images).mean().item()
        table[f"perceptual{name}"] = subjects.far(photos, images)
    if features is None:
        why = "no features were available"
        return table | {"kid": None, "why_kid": why, "frechet64": None, "why_frechet64": why}
    samples = in_batches(subjects.model.synthesize, in_batches(subjects.model.style, w, subjects.p))
    sets = {
        "reconstruction": drawn[""],
        "noise": samples,
        "pca128": drawn["_pca128"],
        "real_halves": photos,
    }
    pick = torch.Generator().manual_seed(seed)
    half = known[torch.randperm(len(known), generator=pick)[:n].to(known.device)]
    near = Likeness(features, half)
    seen = {name: near.see(images)[: len(half)] for name, images in sets.items()}
    return table | {
        "kid": {name: metrics.kid(its, near.reference) for name, its in seen.items()},
        "frechet64": {name: metrics.frechet(its, near.reference) for name, its in seen.items()},
    }


def where_the_class_sits(subjects: Subjects) -> dict[str, Any]:
    """Agreement and KL of drawn and photo, as they are and with w or p exchanged (trap 11)."""
    model, photo = subjects.model, subjects.photo
    divergences: list[float] = []

    def classify(w: Latents, p: Probabilities) -> Logits:
        logits = subjects.draw(in_batches(model.style, w, p)).logits
        divergences.append(kl(photo.logits, logits).mean().item())
        return logits

    shares = metrics.agreement(subjects.w, subjects.p, model.mean_p, photo.labels, classify)
    names = [name for name in shares if name != "chance"]
    return shares | {
        "kl": divergences[0],
        "kl_of": dict(zip(names, divergences, strict=True)),
    }


def panel(subjects: Subjects) -> dict[str, Any]:
    """How far the judges go along with the classifier: on photos (the ceiling), when redrawn."""
    seen, redrawn = subjects.photo, subjects.redrawn
    if seen.panel is None or redrawn.panel is None:
        return {"judges": 0}
    n, classes = len(seen.labels), seen.logits.shape[1]
    agree = int((seen.panel == seen.labels).sum())
    again = (redrawn.panel == seen.labels).float().mean().item()
    low, high = metrics.interval(agree, n)
    ours, theirs = (
        torch.bincount(labels, minlength=classes) / n for labels in (seen.labels, seen.panel)
    )
    return {
        "judges": len(subjects.judges),
        "sources": [judge.source for judge in subjects.judges],
        "accuracies": [judge.about.get("accuracy") for judge in subjects.judges],
        "ceiling": agree / n,
        "ceiling_low": low,
        "ceiling_high": high,
        "chance": (ours * theirs).sum().item(),
        "reconstruction": again,
        "share": again / (agree / n) if agree else None,
        "countable": int(subjects.countable.sum()),
    }


def on_edits(flipped: flips.Pairs, panel: Mapping[str, Any]) -> dict[str, Any]:
    """How far the judges go along with the classifier on edits, and as a share of the ceiling.

    Args:
        flipped: of all pairs; the edits are those of all attributes together.
        panel: of the same images.
    """
    pairs = [its for its in flipped.values() if (its.get("agreed") or [None])[-1] is not None]
    count = sum(its["countable"] for its in pairs)
    if not count:
        return {}
    edits = sum(its["countable"] * its["agreed"][-1] for its in pairs) / count
    ceiling = panel["ceiling"]
    return {"edits": edits, "edits_share": edits / ceiling if ceiling else None}


def check(model: StylEx, images: Images, found: Search | None = None) -> None:
    """Refuse test images that the model cannot draw or that are too few for a rate, and old lists.

    Raises:
        ValueError: they have another size, or are fewer than ten; or see `choosing.check_list`.
    """
    model.check(images)
    if found is not None:
        check_list(found)
    if len(images) < 10:
        raise ValueError(f"{len(images)} test images came, a rate needs 10 or more; give more")
