"""The sweep gives the numbers of `attfind.one_by_one`, with far fewer layers drawn."""

from pathlib import Path

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stylex import sweep
from stylex.attfind import one_by_one
from stylex.classifier import Classifier
from stylex.folding import goals_of, without_norms
from stylex.ledger import Ledger
from stylex.model import StylEx
from stylex.networks import Synthesis
from stylex.stylespace import bounds, shift
from stylex.sweep import batch_within, foretell, measure

# each example draws a few hundred images: a failing one is not shrunk
few = settings(max_examples=3, phases=[Phase.generate])
eight = settings(max_examples=8, phases=[Phase.generate])


def drawn(seed: int, *, dtype=torch.float32, width: float = 0.0625, channels=3) -> Synthesis:
    """An untrained synthesis whose fixed noise and biases show."""
    torch.manual_seed(seed)
    synthesis = Synthesis(32, channels, width=width)
    for conv in synthesis.convs:
        conv.noise_strength.data.normal_()
        conv.bias.data.normal_()
    for layer in synthesis.to_rgb:
        layer.weight.data.normal_()
    return synthesis.to(dtype).requires_grad_(False).eval()


def some_styles(synthesis: Synthesis, n: int, seed: int) -> torch.Tensor:
    """Styles around 1, where the affines start."""
    draw = torch.Generator().manual_seed(seed)
    size = n, synthesis.layout.size
    return 1 + torch.randn(size, generator=draw).to(synthesis.constant.dtype)


def classify_as(classes: int, seed: int, channels: int = 3):
    """A curved function of all pixels, per class."""
    draw = torch.Generator().manual_seed(seed)
    weights = torch.randn(channels * 32 * 32, classes, generator=draw) / 50

    def classify(images):
        return 3 * (images.flatten(1) @ weights.to(images.dtype)).tanh()

    return classify


def both(synthesis, classify, styles, strength, **options):
    """Effects and base logits by the definition and by the sweep."""

    def score(styles):
        return classify(synthesis(styles).clamp(-1, 1))

    j, ends = synthesis.layout.searched, torch.stack([styles.amin(0) - 1, styles.amax(0) + 0.5])
    defined = one_by_one(score, styles, ends, coordinates=j, strength=strength)
    return defined, measure(synthesis, classify, styles, ends, strength=strength, **options)


@pytest.mark.slow
@eight
@given(
    seed=st.integers(0, 99),
    width=st.sampled_from([0.0625, 0.125]),
    channels=st.sampled_from([1, 3]),
    strength=st.sampled_from([0.5, 1.0, 3.0]),
    classes=st.sampled_from([2, 3]),
    batch=st.sampled_from([1, 7, 16, 512]),
)
def test_effects_are_those_of_one_by_one(*, seed, width, channels, strength, classes, batch):
    """To 1e-5 of the scale of the logits, in float32."""
    synthesis = drawn(seed, width=width, channels=channels)
    classify, styles = classify_as(classes, seed, channels), some_styles(synthesis, 2, seed)
    (effects, logits), (ours, base) = both(synthesis, classify, styles, strength, batch=batch)
    scale = (logits.abs().max() + effects.abs().max()).item()
    assert ours.shape == (2, synthesis.layout.searched, 2, classes)
    torch.testing.assert_close(ours, effects, rtol=0, atol=1e-5 * scale)
    torch.testing.assert_close(base, logits, rtol=0, atol=1e-5 * scale)
    assert effects.abs().max() > 0.1 * scale  # something moved


@few
@given(seed=st.integers(0, 99), strength=st.sampled_from([0.5, 1.0, 3.0]))
def test_effects_are_exact_in_float64(seed, strength):
    """No step is left out and none is taken twice: only rounding differs, 1e-12 in float64."""
    with pytest.MonkeyPatch.context() as patch:
        # the networks ask for fp32 where training runs in bf16
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        synthesis, classify = drawn(seed, dtype=torch.float64), classify_as(2, seed)
        styles = some_styles(synthesis, 1, seed)
        (effects, logits), (ours, base) = both(synthesis, classify, styles, strength, batch=32)
    assert ours.dtype == torch.float64
    scale = (logits.abs().max() + effects.abs().max()).item()
    torch.testing.assert_close(ours, effects, rtol=0, atol=1e-12 * scale)
    torch.testing.assert_close(base, logits, rtol=0, atol=1e-12 * scale)


def test_in_bf16_effects_keep_their_order():
    """Close to the exact ones; what does not move has no effect at all, whatever rounding did."""
    synthesis, classify = drawn(4, width=0.125), classify_as(2, 4)
    styles = some_styles(synthesis, 2, 4)
    ends = torch.stack([styles.amin(0) - 1, styles.amax(0) + 0.5])
    ends[:, 7] = styles[:, 7].mean()
    styles[:, 7] = ends[0, 7]
    given = (synthesis, classify, styles, ends)
    exact, base = measure(*given)
    rounded, same = measure(*given, dtype=torch.bfloat16, batch=10)
    assert torch.equal(base, same)
    assert (rounded[:, 7] == 0).all()
    for ours, theirs in zip(rounded[..., 0].flatten(1), exact[..., 0].flatten(1), strict=True):
        assert not torch.equal(ours, theirs)
        assert torch.corrcoef(torch.stack([ours, theirs]))[0, 1] > 0.99


def test_in_bf16_an_image_is_compared_with_itself_in_bf16(monkeypatch):
    """On a trained model rounding moves all moves of a layer alike: that is no effect of theirs."""
    model = StylEx.load(Path(__file__).parents[1] / "models" / "leaves")
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(8, model.generator.latent, generator=draw)
    styles = model.generator.style(model.generator.mapping(z), model.mean_p.expand(8, -1))
    some = torch.arange(0, model.layout.searched, 12)
    given = model.generator.synthesis, model.classifier, styles[:2], bounds(styles)
    exact, _ = measure(*given, coordinates=some)
    ours, _ = measure(*given, coordinates=some, dtype=torch.bfloat16)
    with monkeypatch.context() as patch:
        patch.setattr(
            sweep, "_unmoved", lambda f, classify: classify(f.image.clamp(-1, 1)).expand(672, -1)
        )
        naive, _ = measure(*given, coordinates=some, dtype=torch.bfloat16)
    assert (ours - exact).abs().mean() < 0.5 * (naive - exact).abs().mean()


def test_styles_of_inference_mode_are_foretold():
    """As a search makes them that keeps no ledger."""
    synthesis, classify = drawn(2), classify_as(2, 2)
    with torch.inference_mode():
        styles = some_styles(synthesis, 3, 2)
        ends = bounds(styles)
    given = (synthesis, classify, styles, ends)
    told = foretell(*given, targets=[1])
    exact, _ = measure(*given)
    assert torch.corrcoef(torch.stack([told.flatten(), exact[..., 1].flatten()]))[0, 1] > 0.5


def test_a_wider_generator_with_uneven_layers():
    """Layers of different widths: coordinates land in their own place."""
    synthesis, classify = drawn(3, width=0.15), classify_as(2, 3)
    assert len(set(synthesis.layout.widths)) > 1
    styles = some_styles(synthesis, 1, 3)
    (effects, logits), (ours, _) = both(synthesis, classify, styles, 1.0, batch=10)
    scale = (logits.abs().max() + effects.abs().max()).item()
    torch.testing.assert_close(ours, effects, rtol=0, atol=1e-5 * scale)


def test_what_does_not_move_has_no_effect_at_all():
    """An image on a bound, and a coordinate that is the same everywhere: exactly 0."""
    synthesis, classify = drawn(5), classify_as(2, 5)
    styles = some_styles(synthesis, 3, 5)
    styles[:, 11] = 0.25
    ends = bounds(styles)
    effects, _ = measure(synthesis, classify, styles, ends)
    searched = synthesis.layout.searched
    on_bound = (styles[:, None, :searched] == ends[None, :, :searched]).mT  # [n, j, 2]
    assert on_bound[:, 11].all()
    assert (effects[on_bound] == 0).all()
    assert (effects[~on_bound] != 0).any(-1).all()
    still, _ = measure(synthesis, classify, styles, ends, strength=0.0)
    assert (still == 0).all()


def test_order_and_company_of_the_images_change_nothing():
    """Bit for bit: each image is swept by itself."""
    synthesis, classify = drawn(6), classify_as(3, 6)
    styles, order = some_styles(synthesis, 3, 6), torch.tensor([2, 0, 1])
    ends = bounds(styles)
    effects, logits = measure(synthesis, classify, styles, ends)
    other, base = measure(synthesis, classify, styles[order], ends)
    assert torch.equal(other, effects[order])
    assert torch.equal(base, logits[order])
    alone, _ = measure(synthesis, classify, styles[1:2], ends)
    assert torch.equal(alone, effects[1:2])


def test_batch_changes_nothing_but_rounding():
    """One move at a time or all at once."""
    synthesis, classify = drawn(7), classify_as(2, 7)
    styles = some_styles(synthesis, 2, 7)
    ends = bounds(styles)
    one, _ = measure(synthesis, classify, styles, ends, batch=2)
    for batch in (1, 3, 50, 4096):
        more, base = measure(synthesis, classify, styles, ends, batch=batch)
        torch.testing.assert_close(
            more, one, rtol=0, atol=1e-5 * (base.abs().max() + one.abs().max())
        )


def test_the_shared_part_is_drawn_once():
    """Layers before the touched one are not drawn again, and one channel of that one suffices."""
    synthesis, classify = drawn(8), classify_as(2, 8)
    styles = some_styles(synthesis, 1, 8)
    ends = torch.stack([styles[0] - 1, styles[0] + 1])

    def score(styles):
        return classify(synthesis(styles).clamp(-1, 1))

    with FlopCounterMode(display=False) as plain:
        one_by_one(score, styles, ends, coordinates=synthesis.layout.searched)
    base = score(styles)
    with FlopCounterMode(display=False) as ours:
        measure(synthesis, classify, styles, ends, base=base)
    assert ours.get_total_flops() < 0.85 * plain.get_total_flops()


def test_only_the_wanted_coordinates_are_moved():
    """The same numbers as among all, in the order of the coordinates."""
    synthesis, classify = drawn(11), classify_as(2, 11)
    styles = some_styles(synthesis, 2, 11)
    ends = torch.stack([styles.amin(0) - 1, styles.amax(0) + 1])
    every, base = measure(synthesis, classify, styles, ends)
    wanted = (torch.rand(synthesis.layout.searched) < 0.1).nonzero().flatten()
    some, _ = measure(synthesis, classify, styles, ends, coordinates=wanted, base=base)
    scale = every.abs().max()
    torch.testing.assert_close(some, every[:, wanted], rtol=0, atol=1e-5 * scale)


def test_a_few_moves_of_many_images_are_the_same_effects(tmp_path):
    """Each drawn from the start, three at once; a move that goes nowhere has none at all."""
    synthesis, classify = drawn(9), classify_as(2, 9)
    styles = some_styles(synthesis, 4, 9)
    given = (synthesis, classify, styles, bounds(styles))
    every, base = measure(*given)
    moves = torch.tensor([[3, 5, 0], [0, 7, 1], [1, 30, 1], [3, 2, 1], [2, 40, 0]])
    lowest = styles[:, 5].argmin()
    moves[0, 0] = lowest  # it stands on its bound
    options = {"moves": moves, "base": base, "batch": 3}
    some = sweep.scattered(*given, **options, ledger=Ledger(tmp_path))
    torch.testing.assert_close(some, every[tuple(moves.T)], rtol=0, atol=1e-5 * every.abs().max())
    assert some[0].tolist() == [0.0, 0.0]
    assert torch.equal(sweep.scattered(*given, **options), some)


def test_only_the_wanted_moves_are_drawn(tmp_path):
    """On each image others; one that wants none is not even folded."""
    synthesis, classify = drawn(9), classify_as(2, 9)
    styles, its = some_styles(synthesis, 3, 9), torch.tensor([2, 40])
    given = (synthesis, classify, styles, bounds(styles))
    every, base = measure(*given)
    wanted = torch.tensor([[[1, 0], [0, 1]], [[0, 0], [0, 0]], [[0, 0], [1, 1]]]).bool()
    seen = []
    ledger = Ledger(tmp_path, progress=lambda *now: seen.append(now))
    options = {"coordinates": its, "wanted": wanted, "base": base, "ledger": ledger}
    some, _ = measure(*given, **options)
    torch.testing.assert_close(
        some, every[:, its] * wanted[..., None], rtol=0, atol=1e-5 * every.abs().max()
    )
    assert seen[-1] == (4, 4)


def test_base_logits_are_kept_image_by_image(tmp_path):
    """A start that ended after three of five leaves two to the next one."""
    synthesis, classify = drawn(12), classify_as(2, 12)
    styles, seen = some_styles(synthesis, 5, 12), []

    def mortal(images):
        seen.extend([0] * (len(images) == 1))  # the check draws pairs
        if len(seen) == 4:
            raise KeyboardInterrupt
        return classify(images)

    given = (synthesis, mortal, styles, bounds(styles))
    with pytest.raises(KeyboardInterrupt):
        sweep.base_logits(*given, ledger=Ledger(tmp_path))
    logits = sweep.base_logits(*given, ledger=Ledger(tmp_path))
    assert len(seen) == 4 + 2
    assert torch.equal(
        logits, torch.cat([classify(synthesis(row).clamp(-1, 1)) for row in styles.split(1)])
    )


def test_base_logits_of_another_batch_are_others(tmp_path):
    """An exact search that was stopped may be gone on with as a fast one, which asks in batches."""
    synthesis, classify = drawn(12), classify_as(2, 12)
    styles = some_styles(synthesis, 4, 12)
    given = (synthesis, classify, styles, bounds(styles))
    one, four = (
        sweep.base_logits(*given, ledger=Ledger(tmp_path), batch=batch) for batch in (1, 4)
    )
    torch.testing.assert_close(one, four)


def test_a_function_that_is_not_the_same_twice_is_refused():
    """Random moves of the first image are computed again the slow way."""
    synthesis, calls = drawn(12), []

    def moody(images):
        calls.append(len(images))
        return images.flatten(1)[:, :2] * (1 + len(calls))

    styles = some_styles(synthesis, 2, 12)
    with pytest.raises(ValueError, match="make it deterministic"):
        measure(synthesis, moody, styles, bounds(styles))


@few
@given(seed=st.integers(0, 99))
def test_what_is_foretold_is_right_to_first_order(seed):
    """Short moves cross few kinks: their relative error is far smaller than that of long ones."""
    synthesis, classify = drawn(seed), classify_as(3, seed)
    for rgb in synthesis.to_rgb:
        rgb.weight.data.mul_(0.1)  # nothing is clamped
    here, errors = some_styles(synthesis, 1, seed), []
    for size in (1.0, 0.02):
        ends = torch.stack([here[0] - size, here[0] + size])
        effects, _ = measure(synthesis, classify, here, ends)
        told = foretell(synthesis, classify, here, ends, targets=[2, 0])
        errors.append((told - effects[..., [2, 0]]).norm() / effects[..., [2, 0]].norm())
    assert errors[1] < 0.3 * errors[0]


def test_what_is_linear_is_foretold_exactly():
    """The last layer's change passes no activation: with a linear classifier it is exact."""
    synthesis = drawn(13)
    synthesis.convs[-1].bias.data.fill_(1e4)  # every activation on its straight side
    for rgb in synthesis.to_rgb:
        rgb.weight.data.mul_(1e-6)  # nothing is clamped

    def linear(images):
        return torch.stack([images.sum((1, 2, 3)), images[:, 0].sum((1, 2))], 1)

    styles = some_styles(synthesis, 2, 13).double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        synthesis = synthesis.double()
        ends = bounds(styles)
        effects, _ = measure(synthesis, linear, styles, ends)
        told = foretell(synthesis, linear, styles, ends, targets=[0, 1])
    last = slice(-synthesis.layout.widths[-1], None)
    torch.testing.assert_close(told[:, last], effects[:, last], rtol=1e-6, atol=1e-12)


def test_progress_counts_evaluations():
    """Two for each coordinate, of how many."""
    synthesis, classify = drawn(9), classify_as(2, 9)
    styles, done = some_styles(synthesis, 3, 9), []
    ledger = Ledger(progress=lambda *now: done.append(now))
    measure(synthesis, classify, styles, bounds(styles), ledger=ledger, batch=32)
    total = 3 * 2 * synthesis.layout.searched
    assert done == sorted(done)
    assert done[-1] == (total, total)
    assert len(done) >= 9


def test_the_batch_fits_the_memory():
    """More memory, more moves at once, up to 64; never fewer than both directions of one."""
    synthesis, classify = drawn(10), classify_as(2, 10)
    row = some_styles(synthesis, 1, 10)
    sizes = [batch_within(2.0**e, synthesis, classify, row) for e in (10, 20, 21, 22, 40)]
    assert (sizes[0], sizes[-1]) == (2, 64)
    assert sizes == sorted(sizes)
    assert sizes[2] == pytest.approx(2 * sizes[1], abs=2)


class Clock:
    """Time that passes only in convolutions."""

    def __init__(self):
        self.counter = FlopCounterMode(display=False)

    def __call__(self) -> float:
        """Seconds since it began to run."""
        return self.counter.get_total_flops() / 1e9


def test_the_cost_is_foretold_from_a_few_moves(monkeypatch):
    """Within 10 % of what all moves of all images then take, of convolutions."""
    synthesis, classify, clock = drawn(14), classify_as(2, 14), Clock()
    styles = some_styles(synthesis, 2, 14)
    ends = torch.stack([styles.amin(0) - 1, styles.amax(0) + 1])
    monkeypatch.setattr(sweep.time, "perf_counter", clock)
    with clock.counter:
        fold, each = sweep.pace(synthesis, classify, styles[:1], batch=8)
        began = clock()
        measure(synthesis, classify, styles, ends, batch=8)
    assert each.shape == (synthesis.layout.searched,)
    assert 2 * (fold + 2 * float(each.sum())) == pytest.approx(clock() - began, rel=0.1)


def test_result_is_an_ordinary_tensor():
    """It may be changed in place, and nothing of the generator hangs on it."""
    synthesis, classify = drawn(10), classify_as(2, 10)
    styles = some_styles(synthesis, 2, 10)
    effects, logits = measure(synthesis.requires_grad_(), classify, styles, bounds(styles))
    effects += 1
    assert not effects.requires_grad
    assert not logits.requires_grad


@given(seed=st.integers(0, 99), strength=st.floats(0, 3))
def test_goals_are_those_of_shift(seed, strength):
    """Both directions of each coordinate land where `stylespace.shift` puts them."""
    draw = torch.Generator().manual_seed(seed)
    styles = torch.randn(3, 6, generator=draw)
    ends, row = bounds(styles), styles[:1]
    goals = goals_of(row, ends, strength, 6)
    expected = [[shift(row, j, d, ends, strength)[0, j] for d in (0, 1)] for j in range(6)]
    assert torch.equal(goals, torch.tensor(expected))


class Normed(nn.Module):
    """Convolutions with batch norms that have seen something."""

    def __init__(self, steps: int = 1):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.last = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        self.steps = steps

    def forward(self, images):
        """Logits."""
        steps = self.steps if self.steps == 1 else int(images.mean() * 0) + 1  # is not traced
        for _ in range(steps):
            features = self.norm(self.conv(images)).relu()
        return self.last(features.mean((2, 3)))


def test_batch_norms_are_folded_where_they_can_be_traced():
    """The same logits without any; a classifier that cannot be traced is left as it is."""
    images = torch.rand(5, 3, 32, 32) * 2 - 1
    classifier = Classifier(Normed(), ("no", "yes"), size=32)
    folded = without_norms(classifier, images[:2])
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    torch.testing.assert_close(folded(images), classifier(images), rtol=1e-5, atol=1e-6)
    assert [m for m in classifier.modules() if isinstance(m, nn.BatchNorm2d)], "untouched"
    stubborn = Classifier(Normed(steps=2), ("no", "yes"), size=32)
    assert without_norms(stubborn, images[:2]) is stubborn
    plain = Classifier(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)), ("no", "yes"), size=32
    )
    assert without_norms(plain, images[:2]) is plain
