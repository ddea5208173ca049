"""The sweep gives the numbers of `attfind.one_by_one`, with far fewer layers drawn."""

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stylex.attfind import one_by_one
from stylex.networks import Synthesis
from stylex.stylespace import bounds, shift
from stylex.sweep import measure, perturbed

# each example draws a few hundred images: a failing one is not shrunk
few = settings(max_examples=3, phases=[Phase.generate])


def drawn(seed: int, *, dtype=torch.float32, width: float = 0.0625) -> Synthesis:
    """An untrained synthesis whose fixed noise and biases show."""
    torch.manual_seed(seed)
    synthesis = Synthesis(32, 3, width=width)
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


def classify_as(classes: int, seed: int):
    """A curved function of all pixels, per class."""
    draw = torch.Generator().manual_seed(seed)
    weights = torch.randn(3 * 32 * 32, classes, generator=draw) / 50

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


@few
@given(
    seed=st.integers(0, 99),
    strength=st.sampled_from([0.5, 1.0, 3.0]),
    classes=st.sampled_from([2, 3]),
    batch=st.sampled_from([1, 7, 16, 512]),
)
def test_effects_are_those_of_one_by_one(seed, strength, classes, batch):
    """To 1e-5 of the scale of the logits, in float32."""
    synthesis, classify = drawn(seed), classify_as(classes, seed)
    styles = some_styles(synthesis, 1, seed)
    (effects, logits), (ours, base) = both(synthesis, classify, styles, strength, batch=batch)
    scale = (logits.abs().max() + effects.abs().max()).item()
    assert ours.shape == (1, synthesis.layout.searched, 2, classes)
    torch.testing.assert_close(ours, effects, rtol=0, atol=1e-5 * scale)
    torch.testing.assert_close(base, logits, rtol=0, atol=1e-5 * scale)
    assert effects.abs().max() > 0.1 * scale  # something moved


@few
@given(seed=st.integers(0, 99), strength=st.sampled_from([0.5, 1.0, 3.0]))
def test_effects_are_exact_in_float64(seed, strength):
    """No step is left out and none is taken twice: only rounding differs, 1e-10 in float64."""
    with pytest.MonkeyPatch.context() as patch:
        # the networks ask for fp32 where training runs in bf16
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        synthesis, classify = drawn(seed, dtype=torch.float64), classify_as(2, seed)
        styles = some_styles(synthesis, 1, seed)
        (effects, logits), (ours, base) = both(synthesis, classify, styles, strength, batch=32)
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, effects, rtol=0, atol=1e-10)
    torch.testing.assert_close(base, logits, rtol=0, atol=1e-10)


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


def test_the_unchanged_part_is_drawn_once():
    """Of L layers of equal width about half are drawn again for each move."""
    synthesis, classify = drawn(8), classify_as(2, 8)
    styles, layers = some_styles(synthesis, 1, 8), len(synthesis.convs)
    rows = []
    for conv in synthesis.convs:
        conv.register_forward_hook(lambda _, given, out: rows.append(len(out)))
    ends = torch.stack([styles[0] - 1, styles[0] + 1])
    measure(synthesis, classify, styles, ends)
    moves = 2 * synthesis.layout.searched
    beginnings = 2 * layers  # the base, and the states before each layer
    assert sum(rows) == moves * (layers + 1) / 2 + beginnings


def test_progress_counts_images():
    """After each image, how many are done."""
    synthesis, classify = drawn(9), classify_as(2, 9)
    styles, done = some_styles(synthesis, 3, 9), []
    measure(synthesis, classify, styles, bounds(styles), progress=done.append)
    assert done == [1, 2, 3]


def test_result_is_an_ordinary_tensor():
    """It may be changed in place, and nothing of the generator hangs on it."""
    synthesis, classify = drawn(10), classify_as(2, 10)
    styles = some_styles(synthesis, 2, 10)
    effects, logits = measure(synthesis.requires_grad_(), classify, styles, bounds(styles))
    effects += 1
    assert not effects.requires_grad
    assert not logits.requires_grad


@given(seed=st.integers(0, 99), strength=st.floats(0, 3))
def test_perturbed_is_shift(seed, strength):
    """Both moves of each coordinate, in order, as `stylespace.shift` makes them."""
    draw = torch.Generator().manual_seed(seed)
    styles = torch.randn(3, 6, generator=draw)
    ends, row, some = bounds(styles), styles[:1], torch.tensor([1, 4, 5])
    moved, where = perturbed(row, some, ends, strength)
    every = [shift(row, j, d, ends, strength) for j in some.tolist() for d in (0, 1)]
    expected = [(i, s) for i, s in enumerate(every) if not torch.equal(s, row)]
    assert where.tolist() == [i for i, _ in expected]
    assert torch.equal(moved, torch.cat([row[:0], *(s for _, s in expected)]))
