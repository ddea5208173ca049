"""Small models that several tests share: one in closed form, one with real but tiny networks."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from stylex import attfind, runs
from stylex.classifier import Classifier
from stylex.draws import Draw
from stylex.model import Stages, StylEx
from stylex.stylespace import Layout, bounds

SIDE = 32
# of four quarters: the ends of every coordinate, and one image between them
ROWS = [[-1.0, -1.0, -1.0, -1.0], [1.0, 1.0, 1.0, 1.0], [0.2, 0.1, 0.0, 0.1]]
QUARTERS = Layout(widths=(2, 2), resolutions=(16, 32))
FLOORS = {"own": 0.9, "mean_w": 0.6, "other_w": 0.6, "swapped_p": 0.5, "mean_p": 0.8, "chance": 0.5}


def draws(seed: int = 0) -> Draw:
    """Draws in a known state, of one process."""
    return Draw(torch.Generator().manual_seed(seed))


def grays(images: Tensor) -> Tensor:
    """Mean gray of each quarter, `[n, 4]`: top left, top right, bottom left, bottom right."""
    return functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), 2).flatten(1)


class Weighing(nn.Module):
    """Logits: the mean grays of the four quarters of an image, times `weights`, plus `margin`."""

    def __init__(self, weights: Tensor, margin: Tensor):
        super().__init__()
        self.register_buffer("weights", weights)
        self.register_buffer("margin", margin)

    def forward(self, images: Tensor) -> Tensor:
        """`[n, c, h, w]` in [-1, 1] to logits."""
        return grays(images) @ self.weights + self.margin


def weighing(weights: list[list[float]], margin: list[float], classes=("no", "yes")) -> Classifier:
    """A classifier whose logits can be added up by hand."""
    model = Weighing(torch.tensor(weights), torch.tensor(margin))
    return Classifier(model, classes, size=SIDE)


class Quarters(StylEx):
    """A StylEx in closed form: style j is the gray of quarter j, plus an `error` of the encoder."""

    def __init__(self, classifier: Classifier, error: float = 0.0):
        super().__init__(classifier, resolution=SIDE, width=0.0625)
        self.error = error
        self.eval().requires_grad_(False)

    @property
    def layout(self) -> Layout:
        """Four coordinates in two layers."""
        return QUARTERS

    def styles(self, images: Tensor) -> Tensor:
        """The grays of the quarters, each wrong by the error."""
        return grays(images) + self.error

    def synthesize(self, styles: Tensor) -> Tensor:
        """Four gray quarters."""
        gray = styles.view(-1, 1, 2, 2).clamp(-1, 1)
        return functional.interpolate(gray, size=(SIDE, SIDE)).expand(-1, 3, -1, -1)

    def redraw(self, styles: Tensor, last: Stages | None) -> tuple[Tensor, Stages]:
        """Nothing is kept."""
        return self.synthesize(styles), last or (styles, [])


def searched(model: Quarters, rows: list[list[float]], **options) -> attfind.Search:
    """AttFind by its definition, over images of the given grays."""
    styles = torch.tensor(rows)
    low_high = bounds(styles)
    strength = options.get("strength", 1.0)
    measured = attfind.one_by_one(model.score, styles, low_high, coordinates=4, strength=strength)
    given = {"classes": model.classes, "bounds": low_high, "styles": styles}
    return attfind.find(*measured, QUARTERS, **given, **options)


def flat(*rows: list[float]) -> Tensor:
    """Photos `[n, 3, 32, 32]` of four gray quarters."""
    gray = torch.tensor(rows).view(-1, 1, 2, 2)
    return functional.interpolate(gray, size=(SIDE, SIDE)).expand(-1, 3, -1, -1)


def tiny(classifier: Classifier, *, seed: int = 0, width: float = 0.0625) -> StylEx:
    """Real networks, untrained, with noise that shows."""
    model = StylEx(classifier, resolution=SIDE, width=width, seed=seed)
    for conv in model.generator.synthesis.convs:
        conv.noise_strength.data.fill_(0.1)
    return model.eval().requires_grad_(False)


def begun(path: Path, model: StylEx, **metrics) -> Path:
    """A run directory with the least that explaining and reporting read."""
    about = {
        "version": runs.VERSION,
        "created": runs.now(),
        "machine": "a machine",
        "stylex": "0",
        "seed": 0,
        "resolution": model.resolution,
        "channels": model.channels,
        "classes": list(model.classes),
        "classifier": {"source": "python object", "hash": model.classifier.hash, "kind": "object"},
        "data": {"source": "photos", "hash": "0" * 64, "counts": {}, "skipped": []},
        "settings": {"perceptual": "none", "width": 0.0625, "group": None, "total_images": 64},
        "images_seen": 64,
        "hours": 0.1,
        "finished": runs.now(),
    }
    runs.write_json(runs.Run(path).about, about)
    measured = {"images": 4, "split": "test", "agreement": FLOORS, "reconstruction": {"l1": 0.1}}
    runs.write_json(runs.Run(path).metrics, measured | metrics)
    return path


class Plain(Quarters):
    """The closed form with its two stops: w is the grays, and p may drive one more share of s.

    Args:
        classifier: of the images.
        by_p: how far the last class's probability moves the first coordinate.
        by_w: share of the grays that reaches the styles; 0 ignores the image.
        smudge: height of the checkerboard that the last coordinate draws, beside its quarter.
    """

    def __init__(self, classifier: Classifier, by_p: float = 0.0, by_w: float = 1.0, smudge=0.0):
        super().__init__(classifier)
        self.by_p, self.by_w, self.smudge = by_p, by_w, smudge

    def encode(self, images: Tensor) -> Tensor:
        """The grays of the quarters."""
        return grays(images)

    def style(self, w: Tensor, p: Tensor) -> Tensor:
        """The grays, and what p adds to the first one."""
        added = self.by_p * (2 * p[:, -1:] - 1)
        return self.by_w * w + torch.cat([added, torch.zeros_like(w[:, 1:])], 1)

    def styles(self, images: Tensor) -> Tensor:
        """Style of the images' own w and p."""
        return self.style(self.encode(images), self.probabilities(images))

    def synthesize(self, styles: Tensor) -> Tensor:
        """Four quarters; with a smudge the last coordinate draws a checkerboard instead."""
        if not self.smudge:
            return super().synthesize(styles)
        kept = torch.cat([styles[:, :3], torch.zeros_like(styles[:, 3:])], 1)
        board = self.smudge * styles[:, 3].view(-1, 1, 1, 1) * checkerboard()
        return super().synthesize(kept) + board


def checkerboard(side: int = SIDE) -> Tensor:
    """+1 and -1 in turn, `[1, 1, h, w]`: the finest pattern there is."""
    line = torch.arange(side)
    return (1 - 2 * ((line[:, None] + line) % 2)).float()[None, None]


class Seeing(nn.Module):
    """One quarter's gray and the height of a checkerboard, weighed: logits (-l/2, +l/2)."""

    def __init__(self, quarter: int, gray: float, board: float):
        super().__init__()
        self.quarter, self.gray, self.board = quarter, gray, board

    def forward(self, images: Tensor) -> Tensor:
        """`[n, c, h, w]` in [-1, 1] to two logits."""
        height = (images.mean(1, keepdim=True) * checkerboard()).mean((1, 2, 3))
        lead = self.gray * grays(images)[:, self.quarter] + self.board * height
        return torch.stack([-lead / 2, lead / 2], 1)


def seeing(quarter: int = 0, gray: float = 1.8, board: float = 0.0) -> Classifier:
    """A classifier of one quarter's gray, or of a checkerboard that nobody else sees.

    Weights stay below 2: a larger effect of one of four coordinates would make images unstable.
    """
    return Classifier(Seeing(quarter, gray, board), ("no", "yes"), size=SIDE)


def quarters(n: int, seed: int = 0) -> Tensor:
    """Photos of four independent grays, uniform in [-0.8, 0.8]."""
    draw = torch.Generator().manual_seed(seed)
    gray = torch.rand(n, 4, generator=draw) * 1.6 - 0.8
    return functional.interpolate(gray.view(-1, 1, 2, 2), size=(SIDE, SIDE)).expand(-1, 3, -1, -1)
