"""`StylEx`: the trained networks and the classifier they explain, as one function of styles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from stylex.classifier import Classifier
from stylex.keeping import SCRIPT_FILE, recall
from stylex.networks import Discriminator, Drawing, Encoder, Generator
from stylex.runs import Run, read_json, read_tensors, replacing
from stylex.shapes import Images, Latents, Logits, Probabilities, Styles
from stylex.stylespace import Layout

Stages = tuple[Styles, list[Drawing]]  # of one image: its styles and the state before each layer


class StylEx(nn.Module):
    """Generator, encoder, discriminator and the frozen classifier.

    Args:
        classifier: the explained classifier; its classes are the model's.
        resolution: side of the images in pixels, a power of two from 32 to 256.
        channels: 3 for colour, 1 for gray.
        width: factor on the channels of every layer.
        seed: of the initial weights and of the fixed noise.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        resolution: int,
        channels: int = 3,
        width: float = 1.0,
        seed: int = 0,
    ):
        super().__init__()
        self.classifier = classifier
        self.resolution, self.channels = resolution, channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            k = len(classifier.classes)
            self.generator = Generator(resolution, channels, k, width=width)
            self.encoder = Encoder(resolution, channels, width=width)
            self.discriminator = Discriminator(resolution, channels, k, width=width)
        self.mean_p: Tensor
        self.register_buffer("mean_p", torch.full((k,), 1 / k))  # over the training images
        self.to(classifier.mean.device).to(memory_format=torch.channels_last)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self.classifier.classes

    @property
    def layout(self) -> Layout:
        """Which style coordinate belongs to which layer."""
        return self.generator.layout

    @property
    def sizes(self) -> dict[str, int]:
        """Side and channels: what images are to be read at."""
        return {"resolution": self.resolution, "channels": self.channels}

    @property
    def at_once(self) -> int:
        """Images that go through the networks together where many do: 64, but 4 at 256 px."""
        return min(64, 2**18 // self.resolution**2)

    def check(self, images: Tensor) -> None:
        """Refuse images that this model cannot draw.

        Raises:
            ValueError: they have another size.
        """
        came, wanted = tuple(images.shape[1:]), (self.channels, self.resolution, self.resolution)
        if came != wanted:
            raise ValueError(
                f"images are {came}, this model was trained on {wanted} (channels, height, width); "
                "load them with `stylex.load_images(..., resolution=..., channels=...)`"
            )

    def probabilities(self, images: Images) -> Probabilities:
        """p = softmax(C(x))."""
        return self.classifier(images).softmax(1)

    def encode(self, images: Images) -> Latents:
        """w = E(x)."""
        return self.encoder(images)

    def style(self, w: Latents, p: Probabilities) -> Styles:
        """s = style([w ; p])."""
        return self.generator.style(w, p)

    def styles(self, images: Images) -> Styles:
        """s of the images under their own probabilities: where every explanation starts."""
        return self.style(self.encode(images), self.probabilities(images))

    def synthesize(self, styles: Styles) -> Images:
        """Images with fixed noise (trap 10), clamped to [-1, 1] (method.md 2)."""
        return self.generator.synthesis(styles).clamp(-1, 1)

    def redraw(
        self, styles: Float[Tensor, "1 s"], last: Stages | None
    ) -> tuple[Float[Tensor, "1 c h w"], Stages]:
        """One image again; what lies before the first layer that changed stays as it was.

        Args:
            styles: of the image.
            last: what the call before returned.

        Returns:
            The image, as `synthesize` draws it, and what the next call needs.
        """
        synthesis = self.generator.synthesis
        before, known = last or (torch.full_like(styles, torch.nan), [synthesis.start(1)])
        changed = self.generator.layer_of[(styles != before)[0]]
        stages = known[: int(changed.min()) + 1] if len(changed) else [*known]
        for layer in range(len(stages) - 1, len(synthesis.convs)):
            stages.append(synthesis.draw(layer, stages[-1], styles))
        return synthesis.finish(stages[-1]).clamp(-1, 1), (styles, stages)

    def reconstruct(self, images: Images) -> Images:
        """G([E(x) ; p])."""
        return self.synthesize(self.styles(images))

    def score(self, styles: Styles) -> Logits:
        """C(G(s)): all that AttFind needs."""
        return self.classifier(self.synthesize(styles))

    @torch.no_grad()
    def forget_p(self) -> None:
        """Make generator and D deaf to p: the columns and rows of weights that it meets are equal.

        Trained with equal probabilities they get equal gradients, and stay equal.
        """
        self.generator.affine.weight[:, self.generator.latent :] = 0
        rows = self.discriminator.to_k.weight
        rows.copy_(rows[:1].expand_as(rows))

    @torch.no_grad()
    def begin_with(self, state: dict[str, Tensor]) -> None:
        """Take another training's `own_state`, whatever its classifier; p makes no difference yet.

        What meets p, the columns of the affines and the rows of D's last layer, becomes the mean
        over that training's classes for each class of ours.

        Raises:
            ValueError: its networks have other shapes.
        """
        if state.keys() != self.own_state().keys():
            self.load_own_state(state)  # says which name is wrong
        state, latent, k = dict(state), self.generator.latent, len(self.classes)
        weight = state["generator.affine.weight"]
        told = weight[:, latent:].mean(1, keepdim=True).expand(-1, k)
        equal = ((latent + k) / weight.shape[1]) ** 0.5  # the run-time scale depends on the inputs
        state["generator.affine.weight"] = equal * torch.cat([weight[:, :latent], told], 1)
        for name in ("discriminator.to_k.weight", "discriminator.to_k.bias"):
            state[name] = state[name].mean(0, keepdim=True).expand(k, *state[name].shape[1:])
        self.load_own_state(state | {"mean_p": self.mean_p})

    def own_state(self) -> dict[str, Tensor]:
        """Every tensor but the classifier's."""
        state = self.state_dict()
        return {k: v.contiguous() for k, v in state.items() if not k.startswith("classifier.")}

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Take the tensors of `own_state`.

        Raises:
            ValueError: they are another network's.
        """
        have = {name: tensor.shape for name, tensor in self.own_state().items()}
        given = {name: tensor.shape for name, tensor in state.items()}
        if wrong := sorted(name for name, _ in have.items() ^ given.items()):
            raise ValueError(
                f"the weights do not fit this network (first wrong name: {wrong[0]}); "
                "give the run that they were trained in"
            )
        self.load_state_dict(state, strict=False)

    def save(self, run: str | Path) -> None:
        """Write `model.safetensors` into a run directory."""
        with replacing(Run(run).model) as partial:
            save_file(self.own_state(), partial)

    @classmethod
    def load(
        cls, run: str | Path, *, classifier: Classifier | None = None, strange: bool = False
    ) -> "StylEx":
        """Open a run.

        Args:
            run: the directory that training wrote.
            classifier: where given, used instead of the one that the run remembers.
            strange: the run may be somebody else's: no program is run because it says so.

        Raises:
            FileNotFoundError: not a run, or nothing was saved yet.
            ValueError: the classifier is not the one that the run was trained with, or a stranger's
                program; or the file of weights is damaged or another network's.
        """
        files = Run.open(run)
        about = read_json(files.about)
        if not files.model.is_file():
            raise FileNotFoundError(
                f"{run} holds no {files.model.name} yet; let `stylex train` reach its first save"
            )
        record = about["classifier"]
        if strange and classifier is None:
            _refuse_programs(record, files)
        classifier = recall(record, files.path, override=classifier)
        model = cls(
            classifier,
            resolution=about["resolution"],
            channels=about["channels"],
            width=about["settings"]["width"],
        )
        model.load_own_state(read_tensors(files.model))
        return model.eval().requires_grad_(False)


def _refuse_programs(record: dict[str, Any], run: Run) -> None:
    """Neither Python that a run names nor TorchScript that it brings, which can write files too."""
    if record["kind"] == "python":
        raise ValueError(
            f"{run.path} names Python code as its classifier ({record['source']}), and no code is "
            "called on the word of a run; if you know it, name it yourself by --classifier"
        )
    if (run.classifier / SCRIPT_FILE).exists():  # whatever kind the run calls it
        raise ValueError(
            f"{run.path} brings a program as its classifier (TorchScript), and none is run on the "
            f"word of a run; if you know it, name it yourself: --classifier {run.classifier}"
        )


@torch.inference_mode()
def in_batches(function: Callable[..., Tensor], *inputs: Tensor, batch: int = 64) -> Tensor:
    """A function of images, or of images and what belongs to them, a batch at a time."""
    return torch.cat(
        [function(*parts) for parts in zip(*(x.split(batch) for x in inputs), strict=True)]
    )
