"""Attributes on top of each other, on scores whose sums are known by hand."""

from dataclasses import replace
from itertools import pairwise
from statistics import mean, pstdev

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stylex import attfind, chaining
from stylex.attfind import Search
from stylex.chaining import (
    Side,
    candidates,
    chain,
    chain_cost,
    chains,
    furthest,
    opposite,
    sides,
    towards,
    won,
)
from stylex.stylespace import bounds, shift

LOW = torch.tensor([[-1.0] * 4, [1.0] * 4, [0.0] * 4, [-0.5] * 4])  # the ends, and two between


def found_of(score, styles, *, classes=("no", "yes"), **options) -> Search:
    """AttFind by its definition."""
    ends = bounds(styles)
    measured = attfind.one_by_one(score, styles, ends, coordinates=styles.shape[1])
    given = {"classes": classes, "bounds": ends, "styles": styles}
    return attfind.find(*measured, None, **given, **options)


def asking(score, ends):
    """A score as the chain asks it."""

    def measure(styles, logits, moves):
        moved = [score(shift(styles, *move, ends)) - logits for move in moves.tolist()]
        return torch.stack(moved, 1)

    return measure


def leading(lead):
    """Two logits that lie a lead apart."""
    return lambda styles: torch.stack([-lead(styles) / 2, lead(styles) / 2], 1)


def linear(styles):
    """The first coordinate counts most, the last not at all."""
    return styles @ torch.tensor([1.0, -0.5, 0.25, 0.0]) - 0.1


def undoing(styles):
    """The first two are as good as each other and undo each other; the third adds to both."""
    a, b = styles[:, 0], styles[:, 1]
    return 0.8 * a + 0.75 * b - 1.6 * (a + 1) * (b + 1) / 4 + 0.3 * styles[:, 2] - 0.3


def best(before, after, alone, threshold=1.0):
    """Of moves in opposite directions."""
    mirrored = torch.ones(after[0].shape[1], dtype=torch.bool)
    return furthest(before, after, alone, mirrored, threshold=threshold)


def made(found, steps, target=1):
    """The moves of a chain, towards a class."""
    return [towards(found, target, step, step.best) for step in steps]


def test_effects_that_add_give_the_order_of_their_sizes():
    """Coordinate 1 goes to its low end, coordinate 3 does nothing; leads add up."""
    score = leading(linear)
    found = found_of(score, LOW, source=0)  # towards yes, over images of no
    (side,) = sides(found, 1)
    assert side.rows.tolist() == [0, 2, 3]
    steps = chain(asking(score, found.bounds), found, [side], count=10)
    assert made(found, steps) == [(0, 1), (2, 1), (1, 0)]
    base = linear(LOW[[0, 2, 3]])
    assert torch.equal(steps[0].before[0], base)
    torch.testing.assert_close(steps[1].before[0], torch.tensor([1.15, 0.9, 1.025]))
    assert [len(step.moves) for step in steps] == [3, 2, 1]


def test_what_undoes_the_others_is_not_chosen():
    """Alone the second raises yes as the first does; on top of it, it takes away."""
    score = leading(undoing)
    found = found_of(score, LOW, source=0)
    alone = [a.coordinate for a in found.towards(1)]
    assert alone[:2] == [0, 1]
    steps = chain(asking(score, found.bounds), found, sides(found, 1), count=10)
    assert [j for j, _ in made(found, steps)] == [0, 2]
    both = shift(shift(found.styles[:1], 0, 1, found.bounds), 2, 1, found.bounds)
    assert undoing(shift(both, 1, 1, found.bounds)) < undoing(both)


def test_a_coordinate_that_was_moved_stays_where_it_is():
    """Both of its directions raise the class, and either would go on doing so."""
    found = found_of(leading(lambda styles: styles[:, 0].abs() + 0.1 * linear(styles) - 1), LOW)
    found = replace(found, source=0)

    def greedy(styles, logits, moves):
        first = (moves[:, 0] == 0).float()
        return torch.stack([-first, first], 1).expand(len(styles), -1, -1)

    moves = candidates(found, sides(found, 1), count=9).tolist()
    assert [0, 0] in moves
    assert [0, 1] in moves
    steps = chain(greedy, found, sides(found, 1), count=9)
    assert [j for j, _ in made(found, steps)] == [0]


def test_two_classes_share_one_list():
    """Each move has a direction for either: here the list of yes is the one of no turned round."""
    score = leading(linear)
    found = found_of(score, LOW)
    both = sides(found, 0)
    assert [(side.target, side.place, side.rows.tolist()) for side in both] == [
        (0, 0, [1]),
        (1, 1, [0, 2, 3]),
    ]
    walked = chains(asking(score, found.bounds), found, [0, 1], count=10)
    assert walked[0] is walked[1]
    assert made(found, walked[0], 0) == [(0, 0), (2, 0), (1, 1)]
    assert made(found, walked[1], 1) == [(0, 1), (2, 1), (1, 0)]
    # image 1 leads for yes by 0.65 and loses 2, the others gain 2, 1 and 1.5, all up to 1.0
    before, after = walked[0][0].before, walked[0][0].after
    best = walked[0][0].best
    torch.testing.assert_close(before[0], torch.tensor([-0.65]))
    torch.testing.assert_close(after[0][:, best], torch.tensor([1.35]))
    torch.testing.assert_close(after[1][:, best], torch.tensor([1.15, 0.9, 1.025]))


def test_a_class_that_every_image_is_decided_as():
    """One side only; and where there is none, no chain."""
    score = leading(lambda styles: linear(styles) + 10)
    found = found_of(score, LOW)
    assert [side.target for side in sides(found, 0)] == [0]
    nothing = found_of(leading(lambda styles: linear(styles) + 10), LOW, source=0)
    assert sides(nothing, 1) == []
    assert chain(asking(score, found.bounds), nothing, [], count=3) == []


def exclusive(styles):
    """Yes where the first two are both high or both low: neither has a direction of its own."""
    return 0.9 * styles[:, 0] * styles[:, 1] + 0.05 * styles[:, 2]


def test_what_one_factor_does_may_depend_on_another():
    """Of an exclusive or each class is flipped by two moves, which no opposite ones would do."""
    styles = torch.tensor(
        [[a, b, c, 0.0] for a in (-1, 1) for b in (-1, 1) for c in (-1, -0.5, 0.5, 1.0)]
    )
    score = leading(exclusive)
    found = found_of(score, styles)
    here = sides(found, 0)
    moves = candidates(found, here, count=2)
    assert moves.tolist() == [  # both ways of both classes, and one of what has a direction
        *([j, first, second] for j in (0, 1) for first in (0, 1) for second in (0, 1)),
        [2, 0, 1],
    ]
    steps = chain(asking(score, found.bounds), found, here, count=2)
    assert [j for j, _ in made(found, steps, 0)] == [0, 1]
    for target, side in enumerate(here):
        moved = found.styles[side.rows]
        for move in made(found, steps, target):
            moved = shift(moved, *move, found.bounds)
        assert (score(moved).argmax(1) == target).all()
    # one of the two goes opposite ways, the other one and the same
    assert sorted(bool(opposite(step.moves)[step.best]) for step in steps) == [False, True]


def test_a_class_without_images_goes_the_opposite_way():
    """Nothing tells what is best for it."""
    score = leading(lambda styles: linear(styles) + 10)
    found = found_of(score, LOW)
    here = sides(found, 0)
    assert candidates(found, here, count=9).tolist() == [[0, 0, 1], [1, 1, 0], [2, 0, 1]]
    steps = chain(asking(score, found.bounds), found, here, count=1)
    assert (made(found, steps, 0), made(found, steps, 1)) == ([(0, 0)], [(0, 1)])


def sure(styles):
    """Three cues of which any two make the classifier as sure as it can be, and a whisper."""
    cues = 2 * styles[:, 0] + 1.8 * styles[:, 1] + 1.6 * styles[:, 2] + 1.2
    return cues.clamp(-2, 2) + 0.001 * styles[:, 3]


def test_a_classifier_that_is_sure_hides_no_cue():
    """On top of two cues the third brings nothing and the whisper something; alone it is a cue."""
    score = leading(sure)
    found = found_of(score, LOW[:1].expand(5, -1) + torch.eye(5, 4) * 2, source=0)
    here = sides(found, 1)
    steps = chain(asking(score, found.bounds), found, here, count=10)
    assert [j for j, _ in made(found, steps)] == [0, 1, 2, 3]
    top = steps[2].after[0] - steps[2].before[0][:, None]
    assert top.mean(0).argmax() == steps[2].moves[:, 0].tolist().index(3)
    torch.testing.assert_close(steps[2].alone[0], steps[0].alone[0][:, 2:])


def test_an_image_that_is_decided_waits_for_the_others():
    """The second move is worth more in all, the first to those that are not decided."""
    before = torch.tensor([2.0, -1.0])
    after, alone = torch.tensor([[2.0, 9.0], [0.5, -0.5]]), torch.zeros(2, 2)
    assert best([before], [after], [alone]) == 0
    assert best([before], [after], [alone], 20.0) == 1
    undone = torch.tensor([[0.0, 2.0], [0.0, -0.9]])  # what undoes the first image loses 1
    assert best([before], [undone], [alone]) == 1


def test_what_gives_most_alone_goes_on_where_all_are_decided():
    """Of what undoes nobody; None where nothing gives anything."""
    before, alone = torch.tensor([2.0, 3.0]), torch.tensor([[0.3, 0.2], [0.3, 0.3]])

    def on(after, alone=alone):
        return best([before], [torch.tensor(after)], [alone])

    assert on([[2.0, 9.0], [3.0, 9.0]]) == 0
    assert on([[0.5, 9.0], [0.5, 9.0]]) == 0  # less sure, still decided
    assert on([[-0.5, 9.0], [9.0, 9.0]]) == 1
    assert on([[-0.5, -0.5], [9.0, 9.0]]) is None
    assert on([[2.0, 9.0], [3.0, 9.0]], -alone) is None
    assert on([[], []], torch.empty(2, 0)) is None


def test_no_side_pays_for_the_other_where_all_are_decided():
    """One image more decided on one side does not make up for one fewer on the other."""
    few, many = torch.tensor([2.0, 3.0]), torch.tensor([-1.0] + [2.0] * 8)
    after = torch.tensor([[-0.1], [9.0]]), torch.tensor([[1.0]] + [[2.0]] * 8)
    alone = torch.ones(2, 1), torch.ones(9, 1)
    assert best([few, many], after, alone) is None
    kept = torch.tensor([[0.1], [9.0]]), after[1]
    assert best([few, many], kept, alone) == 0


def test_sides_count_alike_however_many_images_they_have():
    """Three images lose 0.2 each and one gains 0.5, on top or alone."""
    few, many = torch.tensor([0.0]), torch.zeros(3)
    moves = torch.tensor([[0.5]]), torch.full((3, 1), -0.2)
    nothing = torch.zeros(1, 1), torch.zeros(3, 1)
    assert best([few, many], moves, nothing) == 0
    assert best([few + 2, many + 2], [x + 2 for x in moves], moves) == 0


def test_classes_go_one_way_only_where_both_clearly_gain():
    """The second move is one: however good it is for one class, the other must have some of it."""
    first, second = torch.zeros(4), torch.zeros(3)
    mirrored = torch.tensor([True, False])

    def on(gains, others, mirrored=mirrored):
        after = [torch.tensor([[0.1, gain] for gain in side]) for side in (gains, others)]
        nothing = [torch.zeros_like(side) for side in after]
        return furthest([first, second], after, nothing, mirrored, threshold=1.0)

    assert on([0.9] * 4, [0.01] * 3) == 1
    assert on([0.9] * 4, [0.0] * 3) == 0
    assert on([0.9] * 4, [0.0, 0.0, 0.9]) == 0  # 0.3 by an error of 0.24
    assert on([0.9] * 4, [0.0, 0.0, 0.9], torch.tensor([True, True])) == 1
    assert on([0.1, 0.1, 0.1, 0.9], [0.3] * 3) == 0  # 0.3 by 0.17
    assert on([0.2, 0.1, 0.1, 0.2], [0.01] * 3) == 0  # 0.16 in all, the opposite one 0.2
    assert opposite(torch.tensor([[3, 0, 1], [3, 1, 1]])).tolist() == [True, False]
    assert opposite(torch.tensor([[3, 0], [3, 1]])).tolist() == [True] * 2


def test_candidates_are_twice_as_many_and_raise_the_class():
    """The last coordinate moves nothing; one that is barred is out of the question."""
    found = found_of(leading(linear), LOW, source=0)
    here = sides(found, 1)
    assert candidates(found, here, count=1).tolist() == [[0, 1], [2, 1]]
    assert candidates(found, here, count=9).tolist() == [[0, 1], [2, 1], [1, 0]]
    assert candidates(found, here, count=9, barred={0, 2}).tolist() == [[1, 0]]


def test_only_candidates_that_come_back_are_taken():
    """The best gives way to the next; where none comes back, none gives way."""
    found = found_of(leading(linear), LOW, source=0)
    here = sides(found, 1)

    def but(*shut):
        return lambda here: (
            lambda moves: torch.tensor([float(j not in shut) for j, _ in moves.tolist()])
        )

    assert candidates(found, here, count=1, back=but(0)).tolist() == [[2, 1], [1, 0]]
    assert candidates(found, here, count=1, back=but(2)).tolist() == [[0, 1], [1, 0]]
    assert candidates(found, here, count=9, back=but(0, 1)).tolist() == [[2, 1]]
    assert candidates(found, here, count=1, back=but(0, 1, 2)).tolist() == [[0, 1], [2, 1]]


def test_no_more_is_asked_about_than_is_needed():
    """Two at a time until two come back, or eight were asked about."""
    falling = torch.arange(0.20, 0.0, -0.01)
    styles = torch.stack([-torch.ones(20), torch.ones(20)])
    found = found_of(leading(lambda rows: rows @ falling), styles, source=0)
    asked: list[int] = []

    def never_before(first):
        def share(moves):
            asked.extend(moves[:, 0].tolist())
            return (moves[:, 0] >= first).float() - 0.5 * (moves[:, 0] == first)  # half is enough

        return lambda here: share

    here = sides(found, 1)
    for first, chosen, most in ((0, [0, 1], 2), (3, [3, 4], 6), (7, [7], 8), (8, [0, 1], 8)):
        asked.clear()
        moves = candidates(found, here, count=1, back=never_before(first))
        assert moves[:, 0].tolist() == chosen
        assert asked == list(range(most))


def test_classes_that_a_fast_search_did_not_foretell_stand_still():
    """Where some were not, their effects are 0: then the target's own count for all."""
    weights = torch.tensor([[0.0, 1.0], [0.0, 0.9], [0.0, 0.0], [0.0, 0.0]])
    weights[1, 0] = -0.9  # the second move lowers the other class, and was measured
    found = found_of(lambda styles: styles @ weights, LOW, source=0, threshold=9.0)
    (side,) = sides(found, 1)
    assert candidates(found, [side], count=1)[0].tolist() == [1, 1]
    for told, first in (({"1": 0.9}, [0, 1]), ({"0": 0.9, "1": 0.9}, [1, 1])):
        made = {"measured": [1], "certificate": {"correlation": told}}
        fast = replace(found, made=found.made | made)
        assert candidates(fast, [side], count=1)[0].tolist() == first


def test_many_images_are_thinned_out():
    """Steps are measured on 64 of each class at most, spread over all."""
    styles = torch.linspace(-1, 1, 400)[:, None].expand(-1, 4).clone()
    found = found_of(leading(linear), styles)
    assert [len(side.rows) for side in sides(found, 0)] == [64, 64]
    assert sides(found, 0)[1].rows.tolist()[:3] == [0, 3, 7]


def test_drawn_images_tell_how_sure_a_step_is():
    """Of two moves that each decide half of the images either wins; a clear one always does."""
    before = (torch.zeros(20),)
    after = (torch.stack([torch.arange(20.0) < 10, torch.arange(20.0) >= 10], 1).float(),)
    close = chaining.Step(torch.tensor([[0, 1], [1, 1]]), before, after, after, 0)
    apart = (after[0] * 0 + torch.tensor([0.5, 0.1]),)
    clear = chaining.Step(torch.tensor([[2, 1], [3, 1]]), before, apart, apart, 0)
    found = found_of(leading(linear), LOW, source=0)
    lists = [won(found, 1, [close, clear], torch.Generator().manual_seed(i)) for i in range(40)]
    firsts = [first for first, _ in lists]
    assert 8 < firsts.count((0, 1)) < 32
    assert {second for _, second in lists} == {(2, 1)}
    assert won(found, 1, [], torch.Generator()) == []


def allowed(sides, step):
    """What moves bring in sum; none that both classes make one way where one hardly gains."""
    gain = torch.stack([side.mean(0) for side in sides]).sum(0)
    for m, (_, *ways) in enumerate(step.moves.tolist()):
        its = [side[:, m].tolist() for side in sides]
        clear = all(mean(x) > 2 * pstdev(x) / len(x) ** 0.5 for x in its)
        if len(set(ways)) < len(ways) and not clear:
            gain[m] = -torch.inf
    return gain


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 4), sourced=st.booleans())
def test_no_step_takes_the_images_back(seed, classes, sourced):
    """Whatever the score: leads counted up to the threshold never fall, and nobody is undone."""
    draw = torch.Generator().manual_seed(seed)
    styles = torch.randn(12, 5, generator=draw)
    first, second = (torch.randn(5, n, generator=draw) for n in (6, classes))
    last = torch.randn(6, classes, generator=draw)

    def score(rows):
        return 0.2 * ((rows @ first).tanh() @ last + rows @ second)  # no large effect: all stay

    names = tuple("abcd"[:classes])
    found = found_of(score, styles, classes=names, source=0 if sourced else None)
    target = 1 if sourced else 0
    here = sides(found, target)
    steps = chain(asking(score, found.bounds), found, here, count=5)
    assume(steps)
    assert len({int(step.moves[step.best, 0]) for step in steps}) == len(steps)
    for step in steps:
        pairs = list(zip(step.before, step.after, strict=True))
        most = found.threshold
        top = [a.clamp(max=most) - b.clamp(max=most)[:, None] for b, a in pairs]
        if (gain := allowed(top, step)).max() > 0:
            assert gain[step.best] == gain.max()
            continue
        undone = [
            any((a[:, m] > 0).sum() < (b > 0).sum() for b, a in pairs) for m in range(len(gain))
        ]
        gain = allowed(step.alone, step).masked_fill(torch.tensor(undone), -torch.inf)
        assert gain[step.best] == gain.max() > 0
    for before, after in pairwise(steps):
        for was, now in zip(before.after, after.before, strict=True):
            torch.testing.assert_close(was[:, before.best], now)


@pytest.mark.parametrize(
    ("images", "classes", "expected"),
    [
        (10, 2, (20 + 3 * 10 * 5, 10 * (4 + 3))),
        (200, 2, (256 + 3 * 16 * 5, 128 * 7)),
        (200, 3, (384 + 3 * 24 * 5, 192 * 7)),
        (5, 3, (30 + 3 * 15 * 5, 15 * 7)),
        (5, 1, (10 + 3 * 5 * 5, 35)),
    ],
)
def test_what_it_may_cost(images, classes, expected):
    """Two attributes among four moves: four and three are measured on each image, and on eight of
    a side four and what they began with are drawn, encoded and drawn.
    """
    assert chain_cost(images, classes, 2) == expected


def test_each_side_goes_its_own_way():
    """Coordinates are shared, directions are each side's."""
    moves = torch.tensor([[3, 0, 1], [1, 1, 1]])
    rows = torch.tensor([0])
    assert Side(1, rows, 1).way(moves).tolist() == [[3, 1], [1, 1]]
    assert Side(1, rows).way(moves).tolist() == [[3, 0], [1, 1]]
