"""The terms of method.md section 3: L = L_adv + L_path + L_rec + L_cls."""

import contextlib
import io
import math
import warnings
from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stylex.classifier import Classifier
from stylex.draws import Draw
from stylex.shapes import Images, Logits, Probabilities, Styles
from stylex.sources import one_line

Perceptual = Literal["lpips", "classifier", "none"]
Distance = Callable[[Images, Images], Tensor]


def generator_loss(fake: Float[Tensor, " n"]) -> Tensor:
    """Non-saturating logistic loss of the generator."""
    return F.softplus(-fake).mean()


def discriminator_loss(real: Float[Tensor, " n"], fake: Float[Tensor, " m"]) -> Tensor:
    """Logistic loss of the discriminator."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def r1_penalty(discriminator: nn.Module, real: Images, p: Probabilities) -> Tensor:
    """Mean squared norm of D's gradient at real images (Mescheder et al. 2018); call it in fp32."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real, p).sum(), real, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def path_lengths(images: Images, w: Float[Tensor, "n l"], draw: Draw) -> Float[Tensor, " n"]:
    """|J^T y| for a random image y of unit expected size (StyleGAN2, eq. 4); call it in fp32."""
    y = draw.normal(*images.shape) / math.sqrt(images[0, 0].numel())
    (gradient,) = torch.autograd.grad((images * y).sum(), w, create_graph=True)
    return gradient.square().sum(1).sqrt()


def kl(target: Logits, logits: Logits) -> Float[Tensor, " n"]:
    """KL(C(x) || C(x')) on probabilities (method.md 3)."""
    log_target, log_q = F.log_softmax(target, 1), F.log_softmax(logits, 1)
    return (log_target.exp() * (log_target - log_q)).sum(1)


def perceptual_distance(kind: Perceptual, classifier: Classifier) -> Distance:
    """A distance `(images, images) -> [n]` on the fixed range [-1, 1] (trap 3).

    Args:
        kind: "lpips" (squeeze, weights through torch hub), "classifier" (features of the explained
            classifier, normalised as LPIPS does), or "none" (zero).
        classifier: the explained classifier.

    Raises:
        ValueError: the LPIPS weights cannot be had, or there is no such kind.
    """
    if kind not in get_args(Perceptual):
        raise ValueError(f"perceptual is {kind}; wanted {', '.join(get_args(Perceptual))}")
    if kind == "none":
        return lambda x, y: x.new_zeros(len(x))
    if kind == "lpips":
        return _lpips(classifier)
    return lambda x, y: feature_distance(classifier.features(x), classifier.features(y))


def _lpips(classifier: Classifier) -> Distance:
    # lpips prints, and calls torchvision with an argument that warns
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            import lpips

            network = lpips.LPIPS(net="squeeze", verbose=False)
        except Exception as error:  # no network, or a file that is none: many kinds
            raise ValueError(
                f"the LPIPS weights (squeezenet1_1) could not be loaded ({one_line(error)}); "
                "put them under TORCH_HOME, or choose --perceptual classifier or --perceptual none"
            ) from None
    network.requires_grad_(False).eval().to(classifier.mean.device)

    def distance(x: Images, y: Images) -> Tensor:
        if x.shape[1] == 1:
            x, y = x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)
        return network(x, y).flatten()

    return distance


def feature_distance(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """Squared distance of channel-normalised features, mean over places, mean over layers."""
    return torch.stack(
        [
            (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean((1, 2))
            for a, b in zip(first, second, strict=True)
        ]
    ).mean(0)


def thinness(effects: Float[Tensor, "n s"], free: float) -> Tensor:
    """How many coordinates carry the class beyond the free ones, as a logarithm [O] (trap 13).

    Mean over images of log(r / free), at least 0, where r = (sum e^2)^2 / sum e^4: 1 where one
    coordinate has all the effect, s where all have the same. (With |e| in place of e^2 hundreds of
    small effects count for much, and one coordinate has to swallow all to outweigh them.)
    """
    energies = effects.square() + 1e-12
    ratio = 2 * energies.sum(1).log() - energies.square().sum(1).log()
    return F.relu(ratio - math.log(free)).mean()


def varying(styles: Styles) -> Tensor:
    """How many coordinates vary over a batch, softly [O] (trap 13).

    The sum of deviation / root mean square: 0 for a coordinate that stands still, 1 for one that
    swings about zero, and the same if a layer's weights take over a coordinate's scale.
    """
    return (styles.std(0, correction=0) / (styles.square().mean(0) + 1e-8).sqrt()).sum()


def apart(drawn: Float[Tensor, "m l"], found: Float[Tensor, "n l"]) -> Tensor:
    """How far two sets of w lie apart: their energy distance over the mean distance in `found` [O].

    2 E|a - b| - E|a - a'| - E|b - b'| (Szekely and Rizzo 2013): 0 in the mean for two draws from
    one distribution, whatever its moments are.
    """
    within = torch.pdist(found).mean()
    exact = "donot_use_mm_for_euclid_dist"  # which rounds far more than distances differ
    across = torch.cdist(drawn, found, compute_mode=exact).mean()
    distance = 2 * across - torch.pdist(drawn).mean() - within
    return distance * (within > 1e-6) / within.clamp_min(1e-8)  # of one photo nothing is known


def quieted(images: Images, longest: float) -> Images:
    """The same images, through which no image's gradient flows longer than `longest` of L1's [O].

    The gradient of mean |x' - x| has one length whatever the error; a classifier's has any, and on
    what is not an image yet it drowns the reconstruction: runs stay on the mean image (trap 5).

    Args:
        images: `[n, c, h, w]` that a loss is about to judge.
        longest: in lengths of the gradient of the batch's mean |x' - x|; 0 lets all through.
    """
    if not longest or not images.requires_grad:
        return images
    passed = images.view_as(images)  # the hook is on this branch of the graph only

    def quiet(gradient: Tensor) -> Tensor:
        l1_length = images[0].numel() ** -0.5 / len(images)
        length = gradient.flatten(1).norm(dim=1).clamp_min(1e-20)
        return gradient * (longest * l1_length / length).clamp(max=1)[:, None, None, None]

    passed.register_hook(quiet)
    return passed


def mix_cut(n: int, layers: int, share: float, draw: Draw) -> Float[Tensor, " n"]:
    """Layer from which a second w takes over, for a share of the images; `layers` means never."""
    cut = draw.uniform(n) * (layers - 1) + 1
    mixes = draw.uniform(n) < share
    return torch.where(mixes, cut.floor(), float(layers))
