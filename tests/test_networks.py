"""The three networks: sizes of the paper, stops and stages, noise, mixing, projection."""

import inspect

import pytest
import torch
from small import draws
from torch import Tensor, nn

from stylex.losses import path_lengths, r1_penalty
from stylex.networks import (
    Discriminator,
    Encoder,
    Generator,
    Mapping,
    channels_at,
    latent_size,
    sides,
)

LAYER_ENDS = [512, 1024, 1536, 2048, 2560, 3072, 3584, 4096, 4608, 5120, 5376, 5632, 5760]
SMALL = 0.1  # width: 8 to 12 channels


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Unit normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def photos(n: int, seed: int = 0) -> Tensor:
    """Images in [-1, 1]."""
    return numbers(n, 3, 32, 32, seed=seed).clamp(-1, 1)


def probabilities(n: int, k: int = 3, seed: int = 0) -> Tensor:
    """Rows that sum to one."""
    return numbers(n, k, seed=seed).softmax(1)


@pytest.fixture(scope="module")
def generator() -> Generator:
    """A small generator whose noise is switched on and whose biases are not zero."""
    torch.manual_seed(0)
    made = Generator(32, 3, 3, width=SMALL)
    for layer in made.synthesis.convs:
        nn.init.constant_(layer.noise_strength, 0.3)
        nn.init.normal_(layer.bias)
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def styles(generator: Generator) -> Tensor:
    """Three style vectors."""
    return generator.style(numbers(3, generator.latent), probabilities(3))


def test_256_px_is_the_papers_generator():
    """method.md 2: 13 layers, 5,760 searched coordinates and where each layer ends."""
    with torch.device("meta"):
        made = Generator(256, 3, 2)
    ends = torch.tensor(made.layout.widths).cumsum(0).tolist()
    assert ends == LAYER_ENDS
    assert made.layout.searched == 5760
    assert made.layout.resolutions == (4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256)
    assert made.layout.rgb_widths == (512, 512, 512, 512, 512, 256, 128)
    assert made.affine.weight.shape == (made.layout.size, 512 + 2)
    assert len(made.mapping.layers) == 8


@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_one_dial_decides_the_sizes(resolution):
    """Halving the width halves the channels; no layer gets fewer than eight."""
    for side in sides(resolution):
        full = channels_at(side, resolution=resolution)
        assert channels_at(side, resolution=resolution, width=0.5) == max(8, full // 2)
        assert channels_at(side, resolution=resolution, width=0.001) == 8
    assert sides(resolution)[0] == 4
    assert sides(resolution)[-1] == resolution
    assert latent_size(resolution) == (256 if resolution <= 64 else 512)


def test_each_coordinate_acts_from_its_own_layer_on(generator, styles):
    """A move in layer l leaves the features before it alone and changes those after it."""
    layout, base = generator.layout, list(generator.synthesis.stages(styles))
    for layer in range(len(layout.widths)):
        moved = styles.clone()
        moved[:, sum(layout.widths[:layer])] += 2.0
        for seen, (before, after) in enumerate(
            zip(base, generator.synthesis.stages(moved), strict=True)
        ):
            assert torch.equal(before.features, after.features) == (seen <= layer)


def test_to_rgb_styles_stand_last_and_move_no_features(generator, styles):
    """They are left out of the search: they colour the picture and nothing else."""
    layout, synthesis = generator.layout, generator.synthesis
    assert layout.size == layout.searched + sum(layout.rgb_widths) == styles.shape[1]
    moved = styles.clone()
    moved[:, layout.searched :] += 1.0
    for before, after in zip(synthesis.stages(styles), synthesis.stages(moved), strict=True):
        assert torch.equal(before.features, after.features)
    assert (synthesis(moved) - synthesis(styles)).abs().mean() > 0.01


def test_drawing_the_rest_from_any_stage_is_the_whole(generator, styles):
    """The stages survive what is drawn after them: AttFind starts from each of them many times."""
    synthesis = generator.synthesis
    whole = synthesis(styles)
    stages = list(synthesis.stages(styles))
    assert len(stages) == len(generator.layout.widths) == 7
    for _ in range(2):
        for first, drawing in enumerate(stages):
            for layer in range(first, len(stages)):
                drawing = synthesis.draw(layer, drawing, styles)
            assert torch.equal(synthesis.finish(drawing), whole)


def test_noise_is_fixed_without_a_generator(generator, styles):
    """Trap 10: the same styles give the same image, whatever else was drawn in between."""
    first = generator.synthesis(styles)
    torch.manual_seed(99)
    assert torch.equal(generator.synthesis(styles), first)
    same = generator.synthesis(styles[:1].expand(2, -1))
    assert torch.equal(same[0], same[1])
    torch.testing.assert_close(same[:1], first[:1])


def test_noise_is_drawn_from_a_generator(generator, styles):
    """The seed decides it; every image has its own; switched off it has no part."""

    def drawn(seed: int) -> Tensor:
        return generator.synthesis(styles[:1].expand(2, -1), draws(seed))

    assert torch.equal(drawn(1), drawn(1))
    assert (drawn(1) - drawn(2)).abs().mean() > 0.01
    assert (drawn(1)[0] - drawn(1)[1]).abs().mean() > 0.01
    torch.manual_seed(0)
    quiet = Generator(32, 3, 3, width=SMALL).requires_grad_(False)  # strengths start at zero
    torch.testing.assert_close(quiet.synthesis(styles, draws(1)), quiet.synthesis(styles))


def test_fixed_noise_is_saved_with_the_weights(generator):
    """A loaded model measures the same effects only with the same noise."""
    saved = generator.state_dict()
    assert sum(name.endswith("fixed_noise") for name in saved) == 7
    assert "mapping.mean_w" in saved


def test_style_is_affine_in_w_and_p(generator):
    """One matrix over [w ; p]: the p columns of each coordinate can be read off."""
    w, p, q = numbers(2, generator.latent), probabilities(2), probabilities(2, seed=5)
    columns = generator.affine.weight[:, generator.latent :] * generator.affine.scale
    torch.testing.assert_close(
        generator.style(w, p) - generator.style(w, q), (p - q) @ columns.T, atol=1e-5, rtol=1e-4
    )
    zero = generator.style(torch.zeros_like(w), torch.zeros_like(p))
    assert torch.equal(zero, torch.ones_like(zero))  # a style of 1 leaves the channels alone


def test_mixing_a_w_with_itself_changes_nothing(generator):
    """Wherever the cut is."""
    w, p = numbers(3, generator.latent), probabilities(3)
    mixed = generator.mixed_style(w, w, p, torch.tensor([0.0, 3.0, 7.0]))
    assert torch.equal(mixed, generator.style(w, p))


def test_mixing_takes_each_layer_from_the_right_w(generator):
    """The first w before the cut, the second from there on; ToRGB goes with its resolution."""
    first, second, p = (
        numbers(3, generator.latent),
        numbers(3, generator.latent, seed=1),
        probabilities(3),
    )
    cut = torch.tensor([0.0, 3.0, 7.0])
    a, b = generator.style(first, p), generator.style(second, p)
    mixed = generator.mixed_style(first, second, p, cut)
    layout = generator.layout
    convs, rgbs = layout.split(mixed)
    (a_convs, a_rgbs), (b_convs, b_rgbs) = layout.split(a), layout.split(b)
    for image, at in enumerate(cut.int().tolist()):
        for layer, part in enumerate(convs):
            source = a_convs if layer < at else b_convs
            assert torch.equal(part[image], source[layer][image])
        for block, part in enumerate(rgbs):
            source = a_rgbs if 2 * block < at else b_rgbs
            assert torch.equal(part[image], source[block][image])


def test_mapping_sees_the_direction_of_z_only():
    """z is brought to unit second moment first."""
    torch.manual_seed(0)
    mapping, z = Mapping(16), numbers(4, 16)
    torch.testing.assert_close(mapping(3 * z), mapping(z), atol=1e-5, rtol=1e-4)
    assert all(layer.lr_multiplier == 0.01 for layer in mapping.layers)


def test_discriminator_is_projected():
    """method.md 2: the score is sum_k D_k(x) p_k, so it is linear in p."""
    torch.manual_seed(0)
    judge, x, p = Discriminator(32, 3, 3, width=SMALL), photos(4), probabilities(4)
    alone = torch.stack([judge(x, row.expand(4, -1)) for row in torch.eye(3)], dim=1)
    assert alone.std(1).min() > 1e-3  # the outputs differ: a sum over them would show
    torch.testing.assert_close(judge(x, p), (alone * p).sum(1))
    q = probabilities(4, seed=3)
    torch.testing.assert_close(judge(x, 2 * p - 3 * q), 2 * judge(x, p) - 3 * judge(x, q))


def test_encoder_sees_one_image_and_nothing_else():
    """No p, and no other image of the batch; the discriminator does compare its batch."""
    torch.manual_seed(0)
    encoder, judge = Encoder(32, 3, width=SMALL), Discriminator(32, 3, 3, width=SMALL)
    x, p = photos(4), probabilities(4)
    assert list(inspect.signature(Encoder.forward).parameters) == ["self", "images"]
    assert encoder(x).shape == (4, latent_size(32))
    torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]), atol=1e-5, rtol=1e-4)
    assert (judge(x, p)[0] - judge(x[:1], p[:1])[0]).abs() > 1e-4


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_and_colour_go_through(channels):
    """Images in, images out, of the same shape."""
    torch.manual_seed(0)
    images, p = photos(2)[:, :channels], probabilities(2)
    made = Generator(32, channels, 3, width=SMALL)
    w = Encoder(32, channels, width=SMALL)(images)
    redrawn = made.synthesis(made.style(w, p))
    assert redrawn.shape == images.shape
    assert Discriminator(32, channels, 3, width=SMALL)(redrawn, p).shape == (2,)


def test_r1_trains_every_part_of_the_trunk():
    """The gradient of the penalty is what finite differences say, along a random direction."""
    torch.manual_seed(0)
    judge, x, p = (
        Discriminator(32, 3, 3, width=SMALL).double(),
        photos(4).double(),
        probabilities(4),
    )
    parameters = [q for q in judge.parameters() if q.ndim > 1]
    gradients = torch.autograd.grad(r1_penalty(judge, x, p.double()), parameters)
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in gradients)
    directions = [g / g.norm() for g in gradients]
    wanted = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True)).item()
    step, values = 1e-4, []
    for sign in (1, -1):
        for q, d in zip(parameters, directions, strict=True):
            q.data += sign * step * d
        values.append(r1_penalty(judge, x, p.double()).item())
        for q, d in zip(parameters, directions, strict=True):
            q.data -= sign * step * d
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(wanted, rel=0.02)


def test_path_length_trains_the_generator():
    """Second derivatives pass through the in-place parts of a layer to every weight."""
    torch.manual_seed(0)
    made, p = Generator(32, 3, 3, width=SMALL), probabilities(2)
    w = made.mapping(numbers(2, made.latent))
    images = made.synthesis(made.style(w, p), draws(0))
    path_lengths(images, w, draws(1)).square().mean().backward()
    for name, parameter in made.synthesis.named_parameters():
        if name.endswith("weight"):
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name
