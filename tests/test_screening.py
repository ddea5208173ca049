"""The quick search: what it reports is exact, what it chooses is what the exact one chooses."""

from functools import partial
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_sweep import Clock, classify_as, drawn, few, some_styles

from stylex import rehearsing, screening
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
    with patch.object(screening, "MANY", 4):
        both = Both(seed, size=0.1, classes=classes, rule=rule, count=4, threshold=0.05)
    assert moves(both.exact)
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


@few
@given(seed=st.integers(0, 99), size=st.sampled_from([0.1, 2.0]))
def test_ranked_in_bf16_the_list_is_exact_even_far_from_linear(seed, size):
    """What bf16 rounds is measured again: same order, same effects to fp32's rounding."""
    both = Both(seed, size=size, count=4)
    with patch.object(screening, "MANY", 4):
        found = quick(*both.given, finish=both.finish, rounded=True, **both.asked)
    assert moves(found) == moves(both.exact)
    scale = both.effects.abs().max() + both.logits.abs().max()
    for ours, theirs in zip(found.attributes, both.exact.attributes, strict=True):
        assert ours.effect == pytest.approx(theirs.effect, abs=1e-5 * scale.item())
    rest = torch.ones(found.effects.shape[1], dtype=torch.bool)
    rest[found.made["measured"]] = False
    assert (found.effects - both.effects)[:, rest].abs().max() > 1e-5 * scale  # these are rounded
    said = found.made["certificate"]
    assert "ranked in bf16" in said["says"]


def test_a_wrong_prediction_widens_the_look_ahead(monkeypatch):
    """Where only the signs are right that are foretold, it looks further ahead."""
    real = screening.sweep.foretell

    def wrong(*args, **options):
        draw = torch.Generator().manual_seed(0)
        told = real(*args, **options)
        return told.sign() * told.abs()[:, torch.randperm(told.shape[1], generator=draw)]

    monkeypatch.setattr(screening.sweep, "foretell", wrong)
    monkeypatch.setattr(screening, "AHEAD", 8)
    both = Both(3, size=0.1, count=3, threshold=0.05)
    said = both.quick.made["certificate"]
    assert said["widened"]
    assert said["ahead"] > 8
    assert max(said["correlation"].values()) < 0.9


class Known(screening.Screen):
    """A screen over made-up effects: what it measures it looks up."""

    truth: torch.Tensor

    def measure(self, wanted):
        """Look it up."""
        self.effects[wanted] = self.truth[wanted]
        self.known |= wanted


def known(foretold: torch.Tensor, truth: torch.Tensor, *, targets=(0, 1), ahead=4) -> Known:
    """Of effects `[n, j, 2, targets]` and `[n, j, 2, k]`."""
    problem = Problem(0, size=0.1, images=len(truth))
    room = torch.zeros_like(truth)
    screen = Known(*problem.given, 1.0, list(targets), foretold, room, ahead=ahead)
    screen.truth = truth
    return screen


def chosen(screen: Known, **asked):
    """The exact list and the screened one, towards class 1."""
    classes = tuple("abcd"[: screen.truth.shape[3]])
    logits = torch.zeros(len(screen.truth), len(classes))
    logits[:, 0] = 1.0
    about = {"classes": classes, "bounds": screen.bounds, "styles": screen.styles, "targets": [1]}
    finish = partial(find, layout=None, **about, **asked)
    choice = {"source": None, "count": 10, "threshold": 1.0, "rule": "cumulative"} | asked
    fast = screening.screened(screen, logits, finish, **choice)
    return finish(screen.truth, logits), fast


def some_effects(images=12, coordinates=100, classes=2) -> torch.Tensor:
    """Effects that raise class 1 by up to 0.3 logits."""
    draw = torch.Generator().manual_seed(0)
    return torch.rand(images, coordinates, 2, classes, generator=draw) * 0.3


@pytest.mark.parametrize("rule", ["cumulative", "single", "share"])
def test_an_audit_that_changes_the_list_is_followed_by_a_wider_search(rule, monkeypatch):
    """What nobody foretold comes into the list when it is drawn, under every rule."""
    monkeypatch.setattr(screening, "DOUBT", -2.0)
    monkeypatch.setattr(screening, "AUDITED", 80)
    truth = some_effects()
    foretold = truth.clone()
    foretold[:, 30:50] = 0.0
    truth[:6, 30:50, :, 1] = 0.32  # of half of the images: the mean is a usual one
    screen = known(foretold, truth)
    exact, fast = chosen(screen, rule=rule, threshold=0.5, count=12)
    assert {a.coordinate for a in exact.attributes} & set(range(30, 50))
    assert moves(fast) == moves(exact)
    said = fast.made["certificate"]
    assert said["audits"] > 1
    assert said["widened"]


def test_where_audits_go_on_changing_the_list_it_is_not_sure(monkeypatch):
    """Half of the coordinates are strong and foretold as nothing: the certificate says so."""
    monkeypatch.setattr(screening, "DOUBT", -2.0)
    monkeypatch.setattr(screening, "AUDITED", 6)
    truth = some_effects(coordinates=400)
    foretold = truth.clone()
    truth[:, 200:], foretold[:, 200:] = truth[:, 200:] + 0.5, 0.0
    _, fast = chosen(known(foretold, truth), count=20, threshold=9.0)
    said = fast.made["certificate"]
    assert (said["audits"], said["sure"]) == (screening.AUDITS, False)
    assert said["hidden"] > 0
    assert said["says"].startswith("Not sure: audits still changed the list after 3 times. Rep")
    assert "At 95 %" not in said["says"]


def test_right_predictions_are_sure():
    """And say what an audit can say."""
    truth = some_effects()
    exact, fast = chosen(known(truth.clone(), truth))
    said = fast.made["certificate"]
    assert moves(fast) == moves(exact)
    assert (said["sure"], said["audits"], said["hidden"], said["left_out"]) == (True, 1, 0, 0)
    assert said["says"].startswith("Reported effects are exact")
    assert said["says"].endswith("At 95 % at most 9% of them could.")


@pytest.mark.parametrize("rule", ["cumulative", "single", "share"])
def test_a_race_ends_before_every_image_was_measured(rule):
    """The exact list, from a small part of all effects; what is in it is measured everywhere."""
    draw = torch.Generator().manual_seed(1)
    truth = torch.rand(400, 60, 2, 2, generator=draw) * torch.rand(1, 60, 2, 1, generator=draw)
    foretold = truth + 0.1 * torch.rand(1, 60, 2, 2, generator=draw)
    foretold += 0.05 * torch.randn(truth.shape, generator=draw)
    screen = known(foretold, truth, ahead=screening.AHEAD)
    exact, fast = chosen(screen, rule=rule, threshold=2.5, count=5)
    assert moves(fast) == moves(exact)
    attributes = [(a.effect, a.share) for a in fast.attributes]
    assert attributes == [(a.effect, a.share) for a in exact.attributes]
    said = fast.made["certificate"]
    assert said["raced"] > 0.5
    assert said["measured"] < 0.3
    assert {a.coordinate for a in fast.attributes} <= set(fast.made["measured"])


def test_where_all_moves_raced_no_audit_is_told():
    """There is nobody left to draw."""
    told = {"measured": 0.2, "raced": 1.0, "correlation": {"0": 0.9}, "left_out": 0}
    told |= {"ranked": "by prediction", "classes": 1}
    said = screening.certificate(told | {"audits": 1, "audited": 0, "hidden": 0}, whole=False)
    assert said["says"].endswith(
        "(20% of all effects); that all races were decided rightly is 95% sure."
    )


def test_images_left_out_by_prediction_are_told():
    """By the effects that are foretold: classes that nobody asked for do not dilute them."""
    truth = some_effects(classes=3)
    truth[0, :5, :, 1] = 3.0  # 5 % of the effects on class 1: unstable
    _, fast = chosen(known(truth[..., 1:2].clone(), truth, targets=[1]))
    said = fast.made["certificate"]
    assert (said["left_out"], said["sure"]) == (1, False)
    assert said["says"].startswith("Not sure: 1 unstable images were left out by prediction; effe")


def test_where_not_all_classes_were_foretold_it_is_not_sure():
    """An image may be unstable by the effects on another class, which nobody foretold."""
    truth = some_effects(classes=3)
    truth[0, :11, :, 2] = 3.0  # 22 of 600 entries, more than 3.3 %: the exact search leaves it out
    exact, fast = chosen(known(truth[..., 1:2].clone(), truth, targets=[1]))
    said = fast.made["certificate"]
    assert (exact.made["left_out"], said["left_out"], said["sure"]) == (1, 0, False)
    assert said["says"].startswith("Not sure: effects were foretold on 1 of 3 classes, which dec")
    _, every = chosen(known(truth.clone(), truth, targets=[0, 1, 2]))
    assert "of 3 classes" not in every.made["certificate"]["says"]


def raced(foretold: list[float], truth: list[float], images: int) -> tuple[int, Known]:
    """The coordinate that wins upwards over images that are all alike."""
    told, true = torch.zeros(images, len(truth), 2, 2), torch.zeros(images, len(truth), 2, 2)
    told[:, :, 0, 1], true[:, :, 0, 1] = torch.tensor(foretold), torch.tensor(truth)
    screen, taken = known(told, true), torch.zeros(len(truth), 2, dtype=torch.bool)
    how = {"taken": taken, "risk": 0.05}
    return screen.best(torch.arange(images), 1, lambda effects: effects, **how) // 2, screen


def test_after_a_near_miss_it_is_chosen_again(monkeypatch):
    """The fourth of four was best, so it looks further, and finds what is better still."""
    monkeypatch.setattr(screening, "DOUBT", -2.0)
    truth = [60.0, 60.0, 60.0, 100.0, *[30.0] * 60]
    truth[13] = 200.0
    best, screen = raced([64.0 - j for j in range(64)], truth, images=40)
    assert (best, screen.widened) == (13, True)


def test_over_few_images_it_looks_further(monkeypatch):
    """A mean over three of them is foretold less surely: 40 moves race, where over forty 4 do."""
    monkeypatch.setattr(screening, "DOUBT", -2.0)
    foretold = [64.0 - j for j in range(64)]
    truth = [100.0, *foretold[1:20], 200.0, *foretold[21:]]
    assert raced(foretold, truth, images=40)[0] == 0
    best, screen = raced(foretold, truth, images=3)
    assert (best, screen.widened) == (20, False)


@pytest.mark.parametrize(
    ("foretold", "measured", "agree"),
    [
        ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 900.0], 1.0),  # too large, in the right place
        ([4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0], -1.0),  # also where all directions are right
        ([1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 2.0, 2.0], 1.0),  # nothing to be wrong about
        ([1.0, 1.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], 4.5 / (5 * 4.5) ** 0.5),  # shared places
        ([1.0, 2.0], [2.0, 1.0], 1.0),  # too few
    ],
)
def test_doubt_is_about_the_order_of_rises(foretold, measured, agree):
    """Spearman's correlation of mean rises, by hand; the other direction of each falls."""
    told, true = (
        torch.tensor([[x, -9.0] for x in xs])[None, ..., None] for xs in (foretold, measured)
    )
    screen = known(told, true, targets=[0])
    screen.known[:] = True
    screen.effects[:] = true
    assert screen.correlation(0) == pytest.approx(agree)


def test_a_table_past_the_memory_lies_in_a_file(tmp_path):
    """The same search, bit for bit; foretold and measured effects are mapped."""
    problem = Problem(2, size=0.1, count=3, threshold=0.05)
    ledger = Ledger(tmp_path, memory="1KB")
    ledger.bind("a" * 64)
    given = {"finish": problem.finish, **problem.asked}
    mapped = quick(*problem.given, ledger=ledger, **given)
    plain = quick(*problem.given, **given)
    assert torch.equal(mapped.effects, plain.effects)
    assert moves(mapped) == moves(plain)
    assert list(tmp_path.glob("*/effects-0"))


def test_errors_are_told_apart_into_common_and_own_ones():
    """All off by half of what was foretold; then each by another half, up and down."""
    told = torch.full((2, 3, 2, 1), 2.0)
    assert rehearsing.errors(told + 1, told) == pytest.approx((0.5, 0.0))
    swing = torch.tensor([1.0, -1.0])[:, None, None, None]
    common, own = rehearsing.errors(told + swing, told)
    assert common == 0
    assert own == pytest.approx(0.5 * 2**0.5)  # the variance of two, unbiased
    assert rehearsing.errors(told[:1] + 1, told[:1]) == pytest.approx((0.5, 0.0))


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "rule"), [(3, "cumulative"), (5, "share")])
def test_the_cost_is_foretold(seed, rule, monkeypatch):
    """Seconds and evaluations within 30 % of what is then spent, over more images than sampled."""
    asked = {"rule": rule, "count": 4, "threshold": 0.05}
    problem, clock = Problem(seed, size=0.1, images=32, **asked), Clock()
    monkeypatch.setattr(rehearsing.time, "perf_counter", clock)
    told: list[tuple[int, int]] = []
    ledger = Ledger(progress=lambda *now: told.append(now))
    with clock.counter:
        evaluations, seconds = rehearsing.expect(*problem.given, source=None, **problem.asked)
        began = clock()
        quick(*problem.given, finish=problem.finish, ledger=ledger, **problem.asked)
    assert seconds == pytest.approx(clock() - began, rel=0.3)
    assert evaluations == pytest.approx(told[-1][0], rel=0.3)
