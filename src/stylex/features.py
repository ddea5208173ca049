"""Fixed features of images, with the name of the network that gives them.

A distance of image sets means something only beside the features it was measured in, so these
carry their name into every result. None of them is Inception: no such distance is an "FID".
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylex.shapes import Images
from stylex.sources import load_script, one_line

SQUEEZENET = "squeezenet1_1"
INSTEAD = "choose --features file.ts (TorchScript, [n, d]) or --features none"
LEAST_SIDE = 64  # pixels
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Features(nn.Module):
    """A frozen network from images to vectors.

    Args:
        network: images `[n, 3, h, w]` in [-1, 1] to `[n, d]`.
        name: of the network, for results.
    """

    def __init__(self, network: nn.Module, name: str):
        super().__init__()
        self.network, self.name = network.eval(), name
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "Features":
        """Stay in eval mode, whatever is asked."""
        return super().train(False)

    def forward(self, images: Images) -> Float[Tensor, "n d"]:
        """Features of images in [-1, 1], for distances of sets; gray is three equal channels.

        Raises:
            ValueError: the user's network fails or gives something else.
        """
        return self._ask(self.network, images)

    def every(self, images: Images) -> Float[Tensor, "n e"]:
        """Features of all layers side by side, for a linear probe; of a script what it gives.

        One pass gives them, and the middle layers know more of textures and small parts: at 32 px
        a probe of perceived gender was right on 90 % of faces, on the last layer alone on 82 %.
        """
        network = self.network.every if isinstance(self.network, Trunk) else self.network
        return self._ask(network, images)

    @torch.no_grad()
    def _ask(self, network: Callable[[Images], Tensor], images: Images) -> Float[Tensor, "n d"]:
        images = images.float()
        images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        try:
            found = network(images)
        except RuntimeError as error:  # of a script
            raise ValueError(
                f"features {self.name} failed on images {list(images.shape)}: {one_line(error)}; "
                "give a network of images [n, 3, h, w] in [-1, 1]"
            ) from error
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if not (isinstance(shape, list) and len(shape) == 2 and shape[0] == len(images)):
            raise ValueError(
                f"features {self.name} gave {shape} for {len(images)} images, wanted "
                f"[{len(images)}, d]; average over the places in the network"
            )
        return found.float()


class Trunk(nn.Module):
    """The spatial means of an ImageNet network's feature maps."""

    mean: Tensor
    std: Tensor

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.layers = layers
        for name, values in {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}.items():
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))

    def forward(self, images: Images) -> Float[Tensor, "n d"]:
        """Means of the last map, of images in [-1, 1]."""
        return self.maps(images)[-1].mean((2, 3))

    def every(self, images: Images) -> Float[Tensor, "n e"]:
        """Means of all maps, the last one's at the end."""
        return torch.cat([found.mean((2, 3)) for found in self.maps(images)], 1)

    def maps(self, images: Images) -> list[Tensor]:
        """Maps after each activation, of images that are enlarged first where they are small.

        At 32 px one place is left of SqueezeNet's last map and its filters, learnt on photos of
        224 px, meet textures seven times too fine; at 64 px there are nine places.
        """
        if min(images.shape[-2:]) < LEAST_SIDE:
            images = F.interpolate(images, (LEAST_SIDE,) * 2, mode="bilinear", antialias=True)
        found, kept = ((images + 1) / 2 - self.mean) / self.std, []
        for layer in self.layers:
            found = layer(found)
            if not isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                kept.append(found)
        return kept


def load_features(name: str = SQUEEZENET) -> Features:
    """Load a network of features, on the CPU; its `name` belongs beside every number made by it.

    Args:
        name: "squeezenet1_1", torchvision's ImageNet trunk through torch hub (the checkpoint of
            LPIPS' squeeze; 512 numbers), or the path of a TorchScript file: images `[n, 3, h, w]`
            in [-1, 1] to `[n, d]`.

    Raises:
        ValueError: the weights cannot be loaded, or there is no such file.
    """
    if name == SQUEEZENET:
        return Features(Trunk(_squeezenet()), name)
    path = Path(name)
    if name == "none":
        raise ValueError(f"features none were chosen; for some, choose {SQUEEZENET} or file.ts")
    if not path.is_file():
        raise ValueError(f"features {name}: no such file; choose {SQUEEZENET}, or {INSTEAD}")
    script = load_script(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]  # two files may share a name
    return Features(script, f"{path.name} ({digest})")


def _squeezenet() -> nn.Sequential:
    try:
        from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

        network = squeezenet1_1()
        weights = SqueezeNet1_1_Weights.IMAGENET1K_V1
        network.load_state_dict(
            weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        )
    except Exception as error:  # no network, or a file that is none: many kinds
        raise ValueError(
            f"the weights of {SQUEEZENET} could not be loaded ({one_line(error)}); "
            f"put them under TORCH_HOME, or {INSTEAD}"
        ) from None
    layers = network.features
    assert isinstance(layers, nn.Sequential)
    return layers.to(memory_format=torch.channels_last)
