"""The evaluation on a console: every number beside its floor, then where each attribute stands.

Words for the groups that `stylex evaluate` writes into `metrics.json`; nothing is computed anew.
"""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from rich.table import Table
from rich.text import Text

from stylex.exhibits import arrow, at_last, first_pairs, perceptual, said, span
from stylex.page import known, percent
from stylex.standing import ATTRIBUTES, counted, effect, stability_interval, standing, title

Json = Mapping[str, Any]
Row = tuple[str, str, str]  # a measure, its value, its floor

AGREEMENTS = ("mean w", "mean_w"), ("other w", "other_w"), ("swapped p", "swapped_p"), (
    "mean p", "mean_p"), ("chance", "chance")  # fmt: skip


def as_tables(metrics: Json) -> list[Table]:
    """The verdicts, the measures and the attributes of an evaluation.

    Args:
        metrics: the contents of `metrics.json`, or what `evaluate` gave.

    Returns:
        One to three tables; what has no content is left out.
    """
    verdicts = [(gate["name"], gate["says"]) for gate in metrics.get("verdicts") or []]
    tables = [_table("Wrong with the whole model", ("verdict", "because"), verdicts)]
    tables += [_table("Measured on test images", ("measure", "value", "floor"), measures(metrics))]
    attributes = metrics.get("attributes") or []
    head = ("attribute", "standing", "effect, 95 % interval", "does not pass")
    rows = [_attribute(metrics, one) for one in attributes[:ATTRIBUTES]]
    tables += [_table(counted(attributes), head, rows)]
    return [table for table in tables if table.row_count]


def _table(caption: str, head: tuple[str, ...], rows: Any) -> Table:
    """Names come from users: as `Text` none of them is taken for markup."""
    table = Table(*head, title=Text(caption), title_justify="left")
    for row in rows:  # rich would break a line between a number and its %
        table.add_row(*(Text(cell.replace("\N{NO-BREAK SPACE}%", "%")) for cell in row))
    return table


def measures(metrics: Json) -> Iterator[Row]:
    """Every number with what it is and its floor, for a table."""
    yield from _substrate(metrics)
    yield from _class(metrics)
    yield from _panel(metrics)
    for name, what in (("sufficiency", ""), ("sufficiency_percentile", ", 2nd to 98th percentile")):
        for pair, values in first_pairs(metrics, name).items():
            yield from _flips(f"{arrow(pair)}{what}", at_last(values))
    yield from _sets(metrics)
    yield from _whole(metrics)


def _substrate(metrics: Json) -> Iterator[Row]:
    values = metrics.get("substrate") or {}
    for name, what in (("l1", "L1 error"), ("perceptual", perceptual(metrics))):
        if name in values:
            floor = ", ".join(f"PCA-{k} {said(values, f'{name}_pca{k}')}" for k in (128, 512))
            yield what, said(values, name), floor
    for name, what in (("kid", "KID"), ("frechet64", "Fréchet-64")):
        found = values.get(name)
        if found:
            own = f"{known(found, 'reconstruction')}, from noise {known(found, 'noise')}"
            floor = f"PCA-128 {known(found, 'pca128')}, photos {known(found, 'real_halves')}"
            yield f"{what}, {values.get('features')}", own, floor
        elif name in values:
            yield what, known(values, name), ""
    gap = values.get("latent_gap")
    if gap:
        own = f"mean {known(gap, 'mean')}, spread {known(gap, 'covariance')}"
        yield "gap of E(x) and M(z)", own, "0 for none"


def _class(metrics: Json) -> Iterator[Row]:
    shares = metrics.get("agreement") or {}
    divergences = shares.get("kl_of") or {}
    if shares:
        floor = ", ".join(f"{what} {known(shares, name, percent)}" for what, name in AGREEMENTS)
        yield "agreement", known(shares, "own", percent), floor
    if divergences:
        floors = (f"{what} {known(divergences, name)}" for what, name in AGREEMENTS[:-1])
        yield "KL", known(divergences, "own"), ", ".join(floors)


def _panel(metrics: Json) -> Iterator[Row]:
    values = metrics.get("panel") or {}
    if not values.get("judges"):
        yield "judges", "none was asked", ""
        return
    low, high = (known(values, f"ceiling_{end}", percent) for end in ("low", "high"))
    chance = f"chance {known(values, 'chance', percent)}"
    yield "judges agree, photos", f"{known(values, 'ceiling', percent)} ({low} to {high})", chance
    again = known(values, "reconstruction", percent)
    yield "judges agree, reconstructions", again, chance
    if "edits" in values:
        share = f"{known(values, 'edits_share', percent)} of the ceiling"
        yield "judges agree, edits", known(values, "edits", percent), share


def _flips(what: str, last: Json) -> Iterator[Row]:
    if last.get("flipped") is None:
        yield what, said(last, "flipped"), ""
        return
    share = f"{percent(last['flipped'])} ({span(last)})"
    yield (
        f"{what}: flipped by {last['attributes']}",
        share,
        (f"random {known(last, 'random', percent)}"),
    )
    yield (
        f"{what}: confirmed",
        said(last, "confirmed", percent),
        (f"random {said(last, 'random_confirmed', percent)}"),
    )


def _sets(metrics: Json) -> Iterator[Row]:
    for pair, values in first_pairs(metrics, "subset").items():
        sizes = values.get("sizes") or []
        of = f" of {known(values, 'images')} images"
        median_size = f", median size {median(sizes):g}" if sizes else ""
        share = f"{known(values, 'flipped', percent)}{of}{median_size}"
        last = at_last((metrics.get("sufficiency") or {}).get(pair) or {})
        yield f"{arrow(pair)}: smallest sets", share, f"random {known(last, 'random', percent)}"


def _whole(metrics: Json) -> Iterator[Row]:
    values = metrics.get("necessity")
    if values:
        what = f"lead lost without {values.get('coordinates')} coordinates"
        yield (
            what,
            known(values, "gone", percent),
            f"random {known(values, 'random_gone', percent)}",
        )
    ratios = metrics.get("participation_ratio") or {}
    for name in ratios:
        yield f"participation ratio, {name}", known(ratios, name), "1 is the least"
    values = metrics.get("stability")
    if values:
        overlap = known(values, "rank_biased_overlap", "{:.2f}".format)
        found = stability_interval(values)
        yield "rank-biased overlap", f"{overlap} ({found})" if found else overlap, "disjoint 0"


def _attribute(metrics: Json, one: Json) -> tuple[str, ...]:
    gates = one.get("gates") or []
    shut = [gate["name"] for gate in gates if gate["passed"] is False]
    unasked = [f"{gate['name']} (not asked)" for gate in gates if gate["passed"] is None]
    return title(metrics, one), standing(one), effect(one), ", ".join([*shut, *unasked])
