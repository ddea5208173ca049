"""Classifier: the one seam where the user's model comes in.

Its hash, over weights and settings (not code), identifies it: a run never goes on with another.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylex.rounding import exact_products
from stylex.shapes import Images, Logits
from stylex.smallnet import SmallNet
from stylex.sources import complaint, load_script, one_line

Prepared = Float[Tensor, "n _ _ _"]  # as the model wants them
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green, blue (ITU-R BT.601, as Pillow's mode L)
OTHER_LOSS = "choose another perceptual loss, `--perceptual lpips` or `--perceptual none`"


class Classifier(nn.Module):
    """Any differentiable classifier, made ready to be explained: frozen, in eval mode, in float32.

    The model's own parameters are frozen in place. The output is checked at the first call.

    Args:
        model: a module or callable, images `[n, channels, h, w]` to logits `[n, k]`, k >= 2;
            or to one logit l, `[n, 1]` or `[n]`, with `binary`.
        classes: names of the classes, in the order of the logits.
        size: side in pixels that the model wants; None leaves the images as they are.
        mean: subtracted from images in [0, 1], one number or one per channel.
        std: divided by afterwards; the defaults of both leave [-1, 1] as it is.
        channels: 1 or 3, what the model wants.
        binary: one logit l is taken as (-l/2, +l/2), so that both classes have effects
            (method.md trap 12).
        source: where the model came from, for records; `file.py:function` can be loaded again.

    Raises:
        ValueError: the classes, channels, size, mean or std make no sense.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module | Callable[..., Any],
        classes: Sequence[str],
        *,
        size: int | None = None,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        channels: int = 3,
        binary: bool = False,
        source: str = "python object",
    ):
        super().__init__()
        self.model, self.source, self.binary = model, source, binary
        self.classes, self.size, self.channels = _class_names(classes, binary), size, channels
        if channels not in (1, 3):
            raise ValueError(f"channels={channels}: wanted 1 (gray) or 3 (red, green, blue)")
        if size is not None and size < 1:
            raise ValueError(f"size={size}: wanted a side in pixels, or None")
        self.register_buffer("mean", _per_channel("mean", mean, channels), persistent=False)
        self.register_buffer("std", _per_channel("std", std, channels), persistent=False)
        if not (self.std > 0).all() or not (self.std + self.mean).isfinite().all():
            raise ValueError(f"mean={mean}, std={std}: wanted numbers, std above 0")
        self.about: dict[str, Any] = {}  # what was measured when it was trained, if we trained it
        self.file: Path | None = None  # the TorchScript file, if it came from one
        self.file_hash = ""  # SHA-256 of that file
        self._checked = False
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "Classifier":
        """Stay in eval mode, whatever is asked: batch statistics would make logits drift."""
        return super().train(False)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Classifier":
        before = self.mean.device
        super()._apply(fn, recurse)
        if self.file is not None and self.mean.device != before:  # a script: see there
            self.model = load_script(self.file, self.mean.device)
            self.requires_grad_(False)
        return self

    def forward(self, images: Images) -> Logits:
        """Logits of images in [-1, 1] of any size, differentiable with respect to the images.

        Raises:
            ValueError: the model fails, or its output is not usable as logits.
        """
        with torch.autocast(images.device.type, enabled=False):
            prepared = self.prepare(images)
            output = self.model(prepared) if self._checked else self._first_call(prepared)
            if images.requires_grad and torch.is_grad_enabled() and not output.requires_grad:
                raise ValueError(
                    f"{self.source} is not differentiable: its output does not depend on the "
                    "image's gradient; remove no_grad, detach, argmax and numpy from the model"
                )
        if not self.binary:
            return output.float()
        half = output.float().reshape(-1, 1) / 2
        return torch.cat([-half, half], 1)

    def prepare(self, images: Images) -> Prepared:
        """Images as the model wants them: its channels, its size (antialiased), its scale."""
        images = _convert_channels(images.float(), self.channels)
        if self.size is not None and images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size,) * 2, mode="bilinear", antialias=True)
        return ((images + 1) / 2 - self.mean) / self.std

    def features_and_logits(self, images: Images) -> tuple[list[Tensor], Logits]:
        """Feature maps and logits of one pass, for the perceptual loss "classifier".

        Returns:
            The last convolution's output of each spatial size from 2 px up, finest first, at most
            five, `[n, c, h, w]` each; and the logits `[n, k]`.

        Raises:
            ValueError: the model shows no convolutions.
        """
        # inside a callable nothing is seen; a script's convolutions have another type
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        if not convolutions:
            raise ValueError(f"{self.source} shows no Conv2d to take features from; {OTHER_LOSS}")
        found: dict[torch.Size, Tensor] = {}

        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            found[output.shape[-2:]] = output

        handles = [module.register_forward_hook(keep) for module in convolutions]
        try:
            logits = self(images)
        finally:
            for handle in handles:
                handle.remove()
        sides = [side for side in sorted(found, reverse=True) if min(side) >= 2][:5]
        if not sides:
            raise ValueError(f"{self.source} has no features wider than a pixel; {OTHER_LOSS}")
        return [found[side] for side in sides], logits

    def features(self, images: Images) -> list[Tensor]:
        """Feature maps alone; see `features_and_logits`."""
        return self.features_and_logits(images)[0]

    @property
    def settings(self) -> dict[str, Any]:
        """What this seam does to images and logits, as plain data; keywords of `Classifier`."""
        return {
            "classes": list(self.classes),
            "size": self.size,
            "mean": self.mean.double().flatten().tolist(),
            "std": self.std.double().flatten().tolist(),
            "channels": self.channels,
            "binary": self.binary,
        }

    @property
    def kind(self) -> str:
        """What can be kept of it: "smallnet", "torchscript", "python" or "object" (nothing)."""
        if isinstance(self.model, SmallNet):
            return "smallnet"
        if self.file is not None:
            return "torchscript"
        return "python" if ":" in self.source else "object"

    @property
    def hash(self) -> str:
        """SHA-256 of the whole state and of the settings; the same on every device.

        Buffers count too. A TorchScript file, whose weights may be hidden constants, is hashed as
        a file; a callable without state by its rounded logits of fixed images.
        """
        digest = hashlib.sha256(json.dumps(self.settings).encode())
        digest.update(self.file_hash.encode())
        state = _state(self.model)
        for name, tensor in state if not self.file_hash else ():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
        if not state and not self.file_hash:
            digest.update(_bytes(self._probe()))
        return digest.hexdigest()

    @exact_products()
    def _probe(self) -> Tensor:
        """Logits of four fixed noise images, rounded so that devices agree."""
        side, noise = self.size or 64, torch.Generator().manual_seed(0)
        images = torch.rand(4, self.channels, side, side, generator=noise) * 2 - 1
        with torch.no_grad():
            return self(images.to(self.mean.device)).round(decimals=2) + 0.0  # no minus zero

    def _first_call(self, prepared: Prepared) -> Tensor:
        """Run the model and check its output at the door; later calls trust it."""
        try:
            output = self.model(prepared)
        except Exception as error:
            raise ValueError(
                f"{self.source} failed on images {list(prepared.shape)}: {one_line(error)}; "
                "check size, channels, device and what the model wants"
            ) from error
        if says := complaint(output, len(prepared), len(self.classes), self.binary):
            raise ValueError(f"{self.source} {says}")
        self._checked = True
        return output


def _class_names(classes: Sequence[str], binary: bool) -> tuple[str, ...]:
    names = tuple(classes)
    if isinstance(classes, str) or len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"classes={classes!r}: wanted two or more different names, as ('a', 'b')")
    if binary and len(names) != 2:
        raise ValueError(f"binary=True with {len(names)} classes: wanted exactly 2; name both")
    return names


def _per_channel(name: str, value: float | Sequence[float], channels: int) -> Tensor:
    values = [float(v) for v in ([value] if isinstance(value, int | float) else value)]
    if len(values) not in (1, channels):
        raise ValueError(f"{name}={value}: wanted one number or one per channel ({channels})")
    return torch.tensor(values).view(1, -1, 1, 1)


def _convert_channels(images: Images, channels: int) -> Prepared:
    if (have := images.shape[1]) not in (1, 3):
        raise ValueError(f"images with {have} channels came, wanted 1 or 3; convert them to RGB")
    if have > channels:
        red, green, blue = images.split(1, dim=1)  # no constant: a CUDA graph could not copy it
        return LUMINANCE[0] * red + LUMINANCE[1] * green + LUMINANCE[2] * blue
    return images.expand(-1, channels, -1, -1)


def _state(model: Any) -> list[tuple[str, Tensor]]:
    """Parameters and buffers, not only the saved ones, in the order of their names."""
    if not isinstance(model, nn.Module):
        return []
    return sorted([*model.named_parameters(), *model.named_buffers()], key=lambda item: item[0])


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
