"""The images that every rate is measured on, seen once: by the model, the classifier, the panel."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stylex.classifier import Classifier
from stylex.losses import Distance
from stylex.model import StylEx, in_batches
from stylex.shapes import Images, Latents, Logits, Probabilities, Styles

D_RANGE = (0.01, 0.99)  # an edit whose realness lies beyond these quantiles of photos is unusual


@dataclass(frozen=True)
class Drawn:
    """Images drawn from styles, and what is said about them.

    Args:
        images: `[n, c, h, w]`.
        logits: the explained classifier's.
        judges: asked when their answer is wanted, and once.
    """

    images: Images
    logits: Logits
    judges: tuple[Classifier, ...] = ()

    def __getitem__(self, rows: Int[Tensor, " m"]) -> "Drawn":
        """Some of the images; judges are asked about them anew."""
        return Drawn(self.images[rows], self.logits[rows], self.judges)

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """The classifier's decisions."""
        return self.logits.argmax(1)

    @cached_property
    def judged(self) -> tuple[Logits, ...]:
        """Each judge's logits; empty without judges."""
        return tuple(judged(judge, self.images) for judge in self.judges)

    @cached_property
    def panel(self) -> Int[Tensor, " n"] | None:
        """The class that the judges together find the likeliest, None without judges."""
        return together(self.judged).argmax(1) if self.judges else None


class Subjects:
    """Test photos with everything about them that is asked for again and again.

    Args:
        model: the StylEx under test.
        photos: `[n, c, h, w]`, neither trained nor searched on.
        judges: classifiers of the same classes that were trained on other images; may be none.
        distance: the perceptual distance.

    Raises:
        ValueError: a judge has other classes, or has them in another order.
    """

    def __init__(
        self,
        model: StylEx,
        photos: Images,
        *,
        judges: Sequence[Classifier] = (),
        distance: Distance | None = None,
    ):
        for judge in judges:
            if judge.classes != model.classes:
                raise ValueError(
                    f"judge {judge.source} has the classes {', '.join(judge.classes)}, the model "
                    f"{', '.join(model.classes)}; give judges of the same classes in that order"
                )
        self.model, self.judges, self.distance = model, tuple(judges), distance
        model.generator.to(memory_format=torch.channels_last)  # a fifth sooner on a CPU
        self.photos = photos.to(model.mean_p.device)
        self.photo = self._seen(self.photos)
        self.p: Probabilities = self.photo.logits.softmax(1)
        self.w: Latents = in_batches(model.encode, self.photos)
        self.styles: Styles = in_batches(model.style, self.w, self.p)
        self.redrawn = self.draw(self.styles)

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """Decisions on the reconstructions: what an edit starts from."""
        return self.redrawn.labels

    @cached_property
    def countable(self) -> Bool[Tensor, " n"]:
        """Images whose unedited reconstruction the panel decides as the classifier does."""
        if self.redrawn.panel is None:
            return torch.zeros_like(self.labels, dtype=torch.bool)
        return self.redrawn.panel == self.labels

    @cached_property
    def logit_spreads(self) -> list[Float[Tensor, " k"]]:
        """Standard deviation of each logit over the photos: of the classifier, then each judge."""
        every = (self.photo.logits, *self.photo.judged)
        return [logits.std(0).clamp_min(1e-6) for logits in every]

    def draw(self, styles: Styles) -> Drawn:
        """Draw styles and ask everybody."""
        return self._seen(in_batches(self.model.synthesize, styles))

    def _seen(self, images: Images) -> Drawn:
        return Drawn(images, in_batches(self.model.classifier, images), self.judges)

    def far(self, images: Images, others: Images) -> float | None:
        """Mean perceptual distance of pairs; None where none is measured."""
        if self.distance is None:
            return None
        return in_batches(self.distance, images, others).mean().item()

    def _alone(self, images: Images, p: Probabilities) -> Tensor:
        # D compares the images of a group, and how large one is depends on how many are asked
        return self.model.discriminator(images, p, group=1)

    def usual(self, drawn: Drawn) -> Bool[Tensor, " n"]:
        """Whether D finds each image as real as it finds photos, under the image's own p."""
        realness = in_batches(self._alone, drawn.images, drawn.logits.softmax(1))
        low, high = self._realness
        return (realness >= low) & (realness <= high)

    @cached_property
    def usual_unedited(self) -> Bool[Tensor, " n"]:
        """`usual` of the reconstructions."""
        return self.usual(self.redrawn)

    @cached_property
    def _realness(self) -> tuple[float, float]:
        of_photos = in_batches(self._alone, self.photos, self.p)
        low, high = of_photos.quantile(of_photos.new_tensor(D_RANGE)).tolist()
        return low, high


def judged(judge: Classifier, images: Images) -> Logits:
    """One judge's logits, on the images' device."""
    return in_batches(lambda some: judge(some.to(judge.mean.device)).to(some.device), images)


def together(answers: Sequence[Logits]) -> Probabilities:
    """Mean of several judges' probabilities."""
    return torch.stack([logits.softmax(1) for logits in answers]).mean(0)
