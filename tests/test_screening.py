"""The quick search: what it reports is exact, what it chooses is what the exact one chooses."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_sweep import Clock, classify_as, drawn, few, some_styles

from stylex import screening
from stylex.attfind import Search, find
from stylex.ledger import Ledger
from stylex.screening import quick
from stylex.sweep import measure


class Problem:
    """A small generator, styles around one of its images, and what is asked."""

    def __init__(self, seed: int, *, size: float, classes: int = 2, images: int = 4, **asked):
        self.synthesis, self.classify = drawn(seed, width=0.125), classify_as(classes, seed)
        for rgb in self.synthesis.to_rgb:
            rgb.weight.data.mul_(0.2)  # little is clamped
        middle = some_styles(self.synthesis, 1, seed)
        draw = torch.Generator().manual_seed(seed + 1)
        around = torch.randn(images, middle.shape[1], generator=draw)
        self.styles = middle + size * around
        self.ends = torch.stack([self.styles.amin(0), self.styles.amax(0)])
        names = tuple("abcd"[:classes])
        self.finish = partial(
            find,
            layout=self.synthesis.layout,
            classes=names,
            bounds=self.ends,
            styles=self.styles,
            **asked,
        )
        self.given = (self.synthesis, self.classify, self.styles, self.ends)
        targets = [k for k in range(classes) if k != asked.get("source")]
        self.asked = {"targets": targets, **asked}


class Both(Problem):
    """One problem searched twice."""

    def __init__(self, seed: int, **options):
        super().__init__(seed, **options)
        self.effects, self.logits = measure(*self.given)
        self.exact = self.finish(self.effects, self.logits)
        self.quick = quick(*self.given, finish=self.finish, **self.asked)


def moves(found: Search) -> list[tuple[int, int, int]]:
    """What was chosen, in order."""
    return [(a.target, a.coordinate, a.direction) for a in found.attributes]


@few
@given(
    seed=st.integers(0, 99),
    rule=st.sampled_from(["cumulative", "single", "share"]),
    classes=st.sampled_from([2, 3]),
)
def test_the_list_is_that_of_the_exact_search(seed, rule, classes):
    """In order, where effects are nearly linear; a fraction of the coordinates was measured."""
    both = Both(seed, size=0.1, classes=classes, rule=rule, count=4, threshold=0.05)
    assert moves(both.quick) == moves(both.exact)
    for ours, theirs in zip(both.quick.attributes, both.exact.attributes, strict=True):
        assert ours.effect == pytest.approx(theirs.effect, abs=1e-4)
    said = both.quick.made["certificate"]
    assert said["measured"] < 1
    assert min(said["correlation"].values()) > 0.9


@few
@given(seed=st.integers(0, 99), size=st.sampled_from([0.1, 2.0]))
def test_what_is_reported_is_exact_whatever_was_foretold(seed, size):
    """Every attribute, also where effects are far from linear; measured means measured."""
    both = Both(seed, size=size, count=5)
    scale = both.effects.abs().max() + both.logits.abs().max()
    measured = both.quick.made["measured"]
    assert {a.coordinate for a in both.quick.attributes} <= set(measured)
    torch.testing.assert_close(
        both.quick.effects[:, measured], both.effects[:, measured], rtol=0, atol=1e-5 * scale
    )
    torch.testing.assert_close(both.quick.logits, both.logits, rtol=0, atol=1e-5 * scale)


def test_a_wrong_prediction_widens_the_look_ahead(monkeypatch):
    """Where what is foretold says nothing, nearly all is measured, and the list is right."""
    real = screening.sweep.foretell

    def wrong(*args, **options):
        draw = torch.Generator().manual_seed(0)
        told = real(*args, **options)
        return told[:, torch.randperm(told.shape[1], generator=draw)]

    monkeypatch.setattr(screening.sweep, "foretell", wrong)
    monkeypatch.setattr(screening, "AHEAD", 8)
    both = Both(3, size=0.1, count=3, threshold=0.05)
    said = both.quick.made["certificate"]
    assert said["widened"]
    assert said["ahead"] > 8
    assert max(said["correlation"].values()) < 0.9


def test_the_audit_finds_what_was_hidden():
    """A coordinate that was foretold as nothing and is strong: the certificate counts it."""
    both = Both(5, size=0.1, count=3, threshold=0.05)
    foretold = both.effects.clone()
    strongest = both.exact.attributes[0].coordinate
    foretold[:, strongest] = 0
    exact = torch.zeros(foretold.shape[1], dtype=torch.bool)
    rest = dict(strength=1.0, foretold=foretold, effects=foretold.clone(), exact=exact)
    screen = screening.Screen(*both.given, **rest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screening, "AUDITED", len(exact))
        said = screening.certificate(screen, both.logits, {0: 0.0, 1: 1e9})
    assert said["measured"] == 0
    assert said["audited"] == len(exact)
    assert said["hidden"] >= 1
    assert "would have beaten" in said["says"]
    assert "At 95 %" not in said["says"]


@pytest.mark.parametrize(
    ("foretold", "measured", "agree"),
    [
        ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 900.0], 1.0),  # too large, in the right place
        ([-900.0, -2.0, 3.0, 4.0], [-1.0, -2.0, 3.0, 4.0], 1.0),  # what falls is never chosen
        ([4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0], -1.0),
        ([1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 2.0, 2.0], 1.0),  # nothing to be wrong about
        ([1.0, 1.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], 4.5 / (5 * 4.5) ** 0.5),  # shared places
    ],
)
def test_doubt_is_about_the_order_of_rises(foretold, measured, agree):
    """Spearman's correlation of mean rises, by hand."""
    told, true = (torch.tensor(x).view(1, 2, 2, 1) for x in (foretold, measured))
    exact = torch.ones(2, dtype=torch.bool)
    given = Problem(0, size=0.1, images=1).given
    screen = screening.Screen(*given, 1.0, told, true, exact)
    assert screen.correlation(0) == pytest.approx(agree)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "rule"), [(3, "cumulative"), (5, "share")])
def test_the_cost_is_foretold(seed, rule, monkeypatch):
    """Seconds and evaluations within 30 % of what is then spent, over more images than sampled."""
    asked = {"rule": rule, "count": 4, "threshold": 0.05}
    problem, clock = Problem(seed, size=0.1, images=20, **asked), Clock()
    monkeypatch.setattr(screening.time, "perf_counter", clock)
    told: list[tuple[int, int]] = []
    ledger = Ledger(progress=lambda *now: told.append(now))
    with clock.counter:
        evaluations, seconds = screening.expect(*problem.given, source=None, **problem.asked)
        began = clock()
        quick(*problem.given, finish=problem.finish, ledger=ledger, **problem.asked)
    assert seconds == pytest.approx(clock() - began, rel=0.3)
    assert evaluations == pytest.approx(told[-1][0], rel=0.3)
