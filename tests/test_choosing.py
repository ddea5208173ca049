"""Choosing with the model at hand: real but tiny networks, and a discriminator in closed form."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from small import SIDE, Plain, Quarters, searched, seeing, tiny, weighing

from stylex import choosing
from stylex.attfind import Search
from stylex.chaining import sides, towards
from stylex.explaining import search
from stylex.ledger import Ledger
from stylex.scrutiny import returns
from stylex.selection import COMES_BACK, considered, lead
from stylex.stylespace import shift, shift_all

# "yes" gains 1.0, 0.5 and 0.25 per gray of the first three quarters
UP = [[0.0, 1.0], [0.0, 0.5], [0.0, 0.25], [0.0, 0.0]]
GRAYS = [[-0.5] * 4, [0.5] * 4, [-0.5, 0.5, -0.5, 0.5]]


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """Six images of noise, in levels."""
    noise = torch.rand(6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return (noise + torch.linspace(-0.8, 0.8, 6)[:, None, None, None]).clamp(-1, 1)


@pytest.fixture(scope="module")
def model(photos):
    """Untrained networks under a linear classifier that decides half of the photos each way."""
    weights = torch.tensor(UP) * 4
    weights[:, 0] -= torch.tensor([0.3, -0.6, 0.2, 0.9]) * 4
    even = tiny(weighing(weights.tolist(), [0.0, 0.0]))
    leads = lead(even.score(even.styles(photos)), 0).sort().values
    return tiny(weighing(weights.tolist(), [-float(leads[2:4].mean()), 0.0]))


@pytest.fixture(scope="module")
def found(model, photos) -> Search:
    """Searched exactly, three attributes of each class."""
    return search(model, photos, count=3)


def test_the_engine_measures_what_it_is_asked(model, found):
    """In the order of the moves, each in its own direction, on top of what was moved before."""
    styles = shift(found.styles, 5, 1, found.bounds)
    base = model.score(styles)
    moves = torch.tensor([[9, 0], [2, 1], [9, 1], [40, 0]])
    nets = (model.generator.synthesis, model.classifier)
    measured = choosing.engine(*nets, found.bounds)(styles, base, moves)
    plain = [model.score(shift(styles, *move, found.bounds)) - base for move in moves.tolist()]
    torch.testing.assert_close(measured, torch.stack(plain, 1), atol=1e-4, rtol=0)


def test_attributes_add_to_each_other(model, found):
    """Each one raises the mean lead that the ones before it have reached, or undoes nobody."""
    assert found.rule == "subset"
    rows = considered(found.logits, target=1)
    others = considered(found.logits, target=0)
    pairs = ((1, rows), (0, others))

    def reached(count):
        logits = [
            (k, model.score(shift_all(found.styles[r], found.towards(k)[:count], found.bounds)))
            for k, r in pairs
            if r.any()
        ]
        leads = [(its[:, k] - its[:, 1 - k]) for k, its in logits]
        return sum(float(x.clamp(max=1.0).mean()) for x in leads), sum((x > 0).sum() for x in leads)

    levels = [reached(count) for count in range(len(found.towards(1)) + 1)]
    assert len(levels) > 1
    for (level, decided), (next_level, next_decided) in pairwise(levels):
        assert next_level > level or next_decided >= decided


def test_two_classes_share_their_list(found):
    """Place by place one coordinate, in opposite directions, each with its own effect."""
    first, second = found.towards(0), found.towards(1)
    assert [(a.coordinate, 1 - a.direction) for a in first] == [
        (a.coordinate, a.direction) for a in second
    ]
    rows = considered(found.logits, target=1)
    top = second[0]
    mean = found.effects[rows, top.coordinate, top.direction, 1].mean()
    assert top.effect == pytest.approx(float(mean), abs=1e-6)


def test_chosen_again_is_what_was_chosen(model, found):
    """From the effects of the search; the notebook's rule and its own list are a word away."""
    again = choosing.again(model, found, count=3)
    assert again.attributes == found.attributes
    alone = choosing.again(model, found, count=3, rule="cumulative")
    assert alone.rule == "cumulative"
    assert choosing.again(model, alone, count=3).attributes == found.attributes
    one = choosing.again(model, found, count=3, target="yes")
    assert one.attributes == found.towards(1)
    barred = {found.towards(1)[0].coordinate}
    rest = choosing.again(model, found, count=3, without=barred)
    assert barred.isdisjoint(a.coordinate for a in rest.attributes)


@pytest.mark.parametrize("target", [None, "yes"])
def test_choosing_again_says_beforehand_how_much_it_is(model, found, target):
    """One number to do from the first word on, which the work does not pass."""
    told = []
    ledger = Ledger(progress=lambda done, total: told.append((done, total)))
    choosing.again(model, found, count=3, target=target, ledger=ledger)
    assert len(told) > 1
    assert len({total for _, total in told}) == 1
    assert 0 < told[-1][0] <= told[-1][1]


def test_a_fast_search_reports_nothing_foretold(model, found):
    """What the chain takes beyond what was measured is measured on all images, and it is said."""
    made = {"measured": [3], "certificate": {"sure": True, "says": "Sure."}}
    told = replace(found, effects=1.1 * found.effects, made=made)
    nets = (model.generator.synthesis, model.classifier)
    exact = choosing.on_top(told, model.layout, *nets, count=3)
    chosen = {a.coordinate for a in exact.attributes}
    assert exact.made["measured"] == sorted({3, *chosen})
    assert exact.made["certificate"]["says"].startswith("Sure. The list was then chosen on top of")
    for j in chosen:
        torch.testing.assert_close(exact.effects[:, j], found.effects[:, j], atol=1e-4, rtol=0)
    for a in exact.attributes:
        rows = considered(found.logits, target=a.target)
        mean = float(found.effects[rows, a.coordinate, a.direction, a.target].mean())
        assert a.effect == pytest.approx(mean, abs=1e-4)


def test_a_fast_search_chooses_on_top_of_what_it_raced(model, photos):
    """From images to a certificate, as a user gets it."""
    fast = search(model, photos, count=4, mode="fast")
    assert fast.rule == "subset"
    assert "on top of each other" in fast.made["certificate"]["says"]
    assert {a.coordinate for a in fast.attributes} <= set(fast.made["measured"])


def test_chains_are_walked_again_as_they_were(model, found):
    """Among the moves that the search chose from, whatever its effects would say by now."""
    noise = torch.rand(found.effects.shape, generator=torch.Generator().manual_seed(0))
    later = replace(found, effects=found.effects * noise)
    steps = choosing.walked(model, later, [0, 1], count=3)
    for target in (0, 1):
        moves = [towards(later, target, step, step.best) for step in steps[target]]
        assert moves == [(a.coordinate, a.direction) for a in found.towards(target)]


def test_a_list_of_before_is_not_walked(found):
    """Its moves had one direction: a line that says what to do; other rules walk nothing."""
    choosing.check_list(found)
    old = replace(found, made={k: v for k, v in found.made.items() if k != "rest_by"})
    choosing.check_list(replace(old, rule="cumulative"))
    with pytest.raises(ValueError, match="stylex search --reuse"):
        choosing.check_list(old)


def test_how_sure_the_list_is(model, found):
    """Of 40 draws of images: a share for each attribute, and how alike the lists are."""
    back = returns(found, model)
    keys = {(a.target, a.coordinate, a.direction) for a in found.attributes}
    assert set(back["attributes"]) == keys
    assert all(0 < share <= 1 for share in back["attributes"].values())
    assert 0 < back["low"] <= back["rank_biased_overlap"] <= back["high"] <= 1
    assert returns(found, model) == back


def test_the_share_that_comes_back():
    """All, none, half of each pixel, or something else in its place; nothing of nothing."""
    draw = torch.Generator().manual_seed(0)
    before, change = (torch.rand(2, 3, 4, 4, generator=draw) - 0.5 for _ in range(2))
    for height, share in ((1.0, 1.0), (0.0, 0.0), (0.5, 0.75), (-1.0, -3.0)):
        again = 0.9 * before  # an error that both sides have does not count
        sides = (before, before + change, again, again + height * change)
        assert choosing.share_back(*sides) == pytest.approx(share, abs=1e-5)
    assert choosing.share_back(before, before, before, before + change) == 0.0


def shares(model: Plain, rows: list[list[float]], moves: list[list[int]]) -> list[float]:
    """What comes back of moves of all images, to three digits."""
    found = searched(model, rows)
    nets = (model.synthesize, choosing.redrawing(model))
    back = choosing.coming_back(found, *nets, Ledger())(sides(found, 1))
    return [round(share, 3) for share in back(torch.tensor(moves)).tolist()]


def test_what_the_encoder_cannot_see_does_not_come_back():
    """The last coordinate draws a checkerboard, which has no gray: drawn again it is gone."""
    moves = [[0, 1, 0], [3, 1, 0], [2, 0, 0], [3, 0, 1], [1, 1, 0]]
    model = Plain(seeing(0), smudge=0.3)
    assert shares(model, [*GRAYS, [0.2] * 4], moves) == [1.0, 0.0, 1.0, 0.0, 1.0]


def test_p_draws_nothing_again():
    """It draws all that changes here, but it stays what it was: the encoder must have seen it."""
    model = Plain(seeing(0), by_p=0.5, by_w=0.0)
    assert shares(model, [*GRAYS, [0.2] * 4], [[0, 1, 0], [0, 0, 1]]) == [0.0, 0.0]


def chosen(found: Search, target: int = 1) -> list[tuple[int, int]]:
    """Coordinates and directions of a list."""
    return [(a.coordinate, a.direction) for a in found.towards(target)]


def test_what_does_not_come_back_is_not_chosen(model, found, monkeypatch):
    """All but the first of the list comes back: it goes, the rest is chosen without it. A search
    says that it was asked; of moves none of which comes back all may be chosen.
    """
    nets = (model.generator.synthesis, model.classifier)

    def again(share_of) -> Search:
        def back(found, draw, redraw, ledger):
            return lambda here: (
                lambda moves: torch.tensor([share_of(j) for j, *_ in moves.tolist()])
            )

        monkeypatch.setattr(choosing, "coming_back", back)
        return choosing.on_top(
            found, model.layout, *nets, count=3, redraw=choosing.redrawing(model)
        )

    plain = choosing.on_top(found, model.layout, *nets, count=3)
    first = chosen(plain)[0][0]
    without = replace(found, made=found.made | {"without": [first]})
    rest = choosing.on_top(without, model.layout, *nets, count=3)
    assert chosen(rest) != chosen(plain)
    assert chosen(again(lambda j: float(j != first))) == chosen(rest)
    assert chosen(again(lambda j: 0.4)) == chosen(again(lambda j: 0.5)) == chosen(plain)
    assert again(lambda j: 0.5).made["comes_back"] == COMES_BACK
    assert plain.made["comes_back"] is None


def test_every_search_asks_what_comes_back(model, found, photos, monkeypatch):
    """The first one and one that chooses again; the paper's own rules do not."""
    asked: list[int] = []
    true = choosing.coming_back

    def counting(*given):
        asked.append(1)
        return true(*given)

    monkeypatch.setattr(choosing, "coming_back", counting)
    assert search(model, photos, count=3).made["comes_back"] == COMES_BACK
    assert choosing.again(model, found, count=3).made["comes_back"] == COMES_BACK
    assert len(asked) == 2
    assert "comes_back" not in choosing.again(model, found, rule="cumulative").made
    assert "comes_back" not in search(model, photos, rule="cumulative").made
    assert len(asked) == 2


def test_what_comes_back_is_kept_for_all_processes(tmp_path):
    """The second time, as in another process, nothing is drawn again."""
    model = Plain(seeing(0), smudge=0.3)
    found = searched(model, [*GRAYS, [0.2] * 4])
    ledger = Ledger(tmp_path / "searching")
    ledger.bind("a search")
    moves, drawn = torch.tensor([[0, 1, 0], [3, 1, 0]]), []

    def redraw(images, p):
        drawn.append(len(images))
        return choosing.redrawing(model)(images, p)

    def back() -> list[float]:
        here = sides(found, 1)
        return choosing.coming_back(found, model.synthesize, redraw, ledger)(here)(moves).tolist()

    first = back()
    count = len(drawn)
    assert back() == first
    assert len(drawn) == count + 1  # the images before any move


def test_processes_share_the_question_what_comes_back(tmp_path):
    """Of four moves two are drawn by each, and both have the shares of all."""
    model = Plain(seeing(0), smudge=0.3)
    found = searched(model, [*GRAYS, [0.2] * 4])
    moves = torch.tensor([[0, 1, 0], [3, 1, 0], [2, 0, 0], [1, 1, 0]])

    def process(rank: int) -> tuple[int, list[float]]:
        """How many moves it drew, and all shares."""
        ledger, drawn = Ledger(tmp_path / "searching", rank=rank, ranks=2), []
        ledger.bind("a search")

        def redraw(images, p):
            drawn.append(len(images))
            return choosing.redrawing(model)(images, p)

        back = choosing.coming_back(found, model.synthesize, redraw, ledger)(sides(found, 1))
        unmoved = len(drawn)
        shares = back(moves).tolist()
        return len(drawn) - unmoved, [round(share, 3) for share in shares]

    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(process, (0, 1))] == [(2, [1.0, 0.0, 1.0, 1.0])] * 2


class Seeing(torch.nn.Module):
    """A discriminator that looks at the first quarter only."""

    def __init__(self, loud: float):
        super().__init__()
        self.loud = loud

    def forward(self, images: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """Its gray, times p of the second class of the same image."""
        return self.loud * images[:, 0, 0, 0] * (p[:, 1] > 0)


@pytest.mark.parametrize(("loud", "kept"), [(1.0, {1, 2}), (0.1, {0, 1, 2})])
def test_moves_that_the_discriminator_notices_are_left_out(loud, kept):
    """At strength 2 the first quarter changes by 1.5: 1.5 is noticed, 0.15 is not."""
    model = Quarters(weighing(UP, [0.0, 0.0]))
    model.discriminator = Seeing(loud)
    found = searched(model, GRAYS, threshold=10.0)
    assert {a.coordinate for a in found.attributes} == {0, 1, 2}
    assert choosing.noticed(model, found, 0, target=1) == (loud == 1.0)
    assert not choosing.noticed(model, found, 1, target=1)
    assert not choosing.noticed(model, found, 3, target=1)  # it changes no logit, so no image
    left = choosing.unnoticed(model, found, threshold=10.0, rule="cumulative")
    assert {a.coordinate for a in left.attributes} == kept
    assert torch.equal(left.effects, found.effects)
    assert left.made.get("without", []) == ([0] if loud == 1.0 else [])


class Comparing(torch.nn.Module):
    """A discriminator that sees only how images differ from those beside them."""

    def forward(self, images: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """Product of the upper quarters less its mean over the batch."""
        seen = images[:, 0, 0, 0] * images[:, 0, 0, -1]
        return seen - seen.mean()


def test_the_discriminators_verdict_does_not_hang_on_company():
    """Each image is scored alone."""
    model = Quarters(weighing(UP, [0.0, 0.0]))
    model.discriminator = Comparing()
    found = searched(model, GRAYS, threshold=10.0)
    assert not choosing.noticed(model, found, 0, target=1)
