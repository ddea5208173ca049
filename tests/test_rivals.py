"""The rivals, each where its answer is known: on T0, where coordinate j drives factor j."""

from itertools import chain

import pytest
import torch
from quarters import QUARTERS, Exact, read, sampled, weighed
from small import seeing, tiny
from torch import Tensor

from stylex import explaining, rivals
from stylex.edits import Bench, Method, Moves, single
from stylex.metrics import random_attributes
from stylex.selection import lead
from stylex.synthetic import HandMade
from stylex.truth import importance

WEIGHTS = (3.0, 0.0, -2.0, 0.0)
CLASSIFY = weighed(*WEIGHTS)
MADE = HandMade(QUARTERS, CLASSIFY)


def bench(classify=CLASSIFY, n: int = 60) -> Bench:
    """Test images of quarters."""
    factors = sampled(n, seed=3)
    true = importance(classify, QUARTERS)
    return Bench(classify, QUARTERS.render(factors), factors, Exact(), true)


def on_quarters(ways: Tensor, vectors: Tensor) -> Moves:
    """Moves in the space in which coordinate j is factor j."""
    return Moves.within(read, MADE.synthesize, ways, vectors)


def test_stylespace_chooses_what_sets_the_class_apart() -> None:
    """By hand: two coordinates of which one differs and is steady; and on T0 both used factors."""
    styles = torch.tensor([[0.0, 0.0], [1.0, 0.3], [0.0, 0.0], [1.0, -0.3]] * 4)
    logits = torch.stack([-styles[:, 0], styles[:, 0]], 1)
    first, second = rivals.stylespace(styles, logits, coordinates=2)
    assert (first.coordinate, first.direction, second.coordinate) == (0, 1, 1)
    assert first.effect > 100 * second.effect
    factors = sampled(200)
    found = rivals.stylespace(factors, CLASSIFY(QUARTERS.render(factors)), coordinates=4)
    assert {(a.coordinate, a.direction) for a in found[:2]} == {(0, 1), (2, 0)}
    score = bench().score(on_quarters(single(found, 4), factors))
    assert (score["f1"], score["average_precision"], score["sign_accuracy"]) == (1, 1, 1)


def test_stylespace_takes_no_colour_layers_and_no_dead_channels() -> None:
    """Coordinates beyond the searched ones do not count; one that never moves comes last."""
    factors = sampled(80)
    styles = torch.cat([torch.zeros(80, 1), factors, 10 * factors[:, :1]], 1)
    found = rivals.stylespace(styles, CLASSIFY(QUARTERS.render(factors)), coordinates=5)
    assert len(found) == 5
    assert found[-1].coordinate == 0
    assert {a.coordinate for a in found[:2]} == {1, 3}


def test_random_coordinates_score_as_chance_has_it() -> None:
    """Precision at |U| is 1 where the first two happen to be the used ones, else less."""
    chosen = random_attributes(4, coordinates=4, target=1, seed=0)
    score = bench().score(on_quarters(single(chosen, 4), sampled(40)))
    expected = sum(a.coordinate in (0, 2) for a in chosen[:2]) / 2
    assert score["precision"] == expected
    assert score["recall"] == expected


def test_sefa_gives_the_singular_directions() -> None:
    """Rows of one length: what counts is how many of them agree. Here three, two and one."""
    basis = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))[0]
    weight = torch.stack([basis[0], 5 * basis[0], -basis[0], basis[1], basis[1], 9 * basis[2]])
    found = rivals.sefa(weight, count=3)
    assert torch.allclose((found @ basis[:3].T).abs(), torch.eye(3), atol=1e-5)


def test_directions_are_turned_and_ranked_by_what_they_do() -> None:
    """-e2 is the way to class 1 of a factor with weight -2, and comes after factor 0."""
    vectors = sampled(50)
    moves = rivals.ranked(on_quarters(torch.eye(4), vectors), CLASSIFY, vectors)
    expected = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0]])
    torch.testing.assert_close(moves.ways[:2] + 0.0, expected)
    assert bench().score(moves)["f1"] == 1


def test_the_latent_gradient_is_the_weights() -> None:
    """Of a linear margin, whatever the image; as one impure attribute it names the stronger one."""
    slope = rivals.gradient(MADE.synthesize, CLASSIFY, sampled(40), batch=16)
    expected = torch.tensor([WEIGHTS]) / torch.tensor(WEIGHTS).norm()
    torch.testing.assert_close(slope, expected, atol=1e-5, rtol=0)
    score = bench().score(on_quarters(slope, sampled(40)))
    assert [row["factor"] for row in score["attributes"]] == ["one"]
    assert score["recall"] == 0.5
    assert score["purity"] == pytest.approx(3 / 5, abs=0.02)


def test_pixels_by_hand() -> None:
    """A linear classifier: each pixel goes to the end of its reach, up or down with its weight."""
    stand = bench()
    pixels, reach = rivals.Pixels(CLASSIFY), rivals.Pixels.reach
    for strength in (1.0, -1.0, 0.5):
        change = read(pixels.edit(stand.photos, pixels.attributes, strength)) - read(stand.photos)
        expected = strength * reach / 1.6 * torch.tensor(WEIGHTS).sign()
        torch.testing.assert_close(change, expected.expand(60, 4), atol=1e-5, rtol=0)
    assert torch.equal(pixels.edit(stand.photos, (), 0.0), stand.photos)


def test_pixels_flip_and_name_nothing() -> None:
    """A classifier of a pattern that no factor is: nearly all flip, no twin explains any of it."""
    board = (1 - 2 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2)).float()

    def classify(images: Tensor) -> Tensor:
        lead = CLASSIFY(images).diff(dim=1)[:, 0] + 200 * (images * board).mean((1, 2, 3))
        return torch.stack([-lead / 2, lead / 2], 1)

    score = bench(classify).score(rivals.Pixels(classify))
    assert score["sufficiency10"] == 1
    assert (score["f1"], score["false_discovery"]) == (0, 1)


def test_the_grid_names_what_goes_along_with_the_logit() -> None:
    """Both used factors with their signs; and one that is tied to them but causes nothing."""
    stand = bench(n=200)
    table = rivals.grid(stand)
    assert [row["factor"] for row in table["attributes"][:2]] == ["one", "three"]
    assert (table["f1"], table["sign_accuracy"]) == (1, 1)
    assert "purity" not in table
    factors = stand.factors.clone()
    factors[:, 1] = factors[:, 0]
    tied = Bench(CLASSIFY, QUARTERS.render(factors), factors, Exact(), stand.true)
    assert {row["factor"] for row in rivals.grid(tied)["attributes"][:2]} == {"one", "two"}
    assert rivals.grid(tied)["f1"] == 0.5


def test_on_real_networks_every_rival_edits() -> None:
    """Shapes fit; unedited they all redraw alike; an edit by one attribute changes the image."""
    model = tiny(seeing())
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = explaining.search(model, images)
    entrants = (rivals.on_generator(model, found, images), rivals.on_plain(model, found))
    methods = dict(chain(*entrants))
    assert set(methods) == {
        *("attfind's list", "random coordinates", "sefa", "latent gradient"),
        *("attfind on plain", "our list on plain", "stylespace on plain"),
    }
    for name, method in methods.items():
        assert isinstance(method, Method)
        redrawn = method.edit(images, (), 0.0)
        torch.testing.assert_close(redrawn, model.reconstruct(images), atol=1e-4, rtol=0)
        if method.attributes:
            edited = method.edit(images, [method.attributes[0]], 1.0)
            assert not torch.equal(edited, redrawn), name
    up, down = (methods["latent gradient"].edit(images, [0], s) for s in (1.0, -1.0))
    assert lead(model.classifier(up), 1).mean() > lead(model.classifier(down), 1).mean()
