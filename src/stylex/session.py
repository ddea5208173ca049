"""One opened run as the viewer asks it: images, edits, curves, flips, examples.

An image is encoded once and its styles are kept; after that a question costs one synthesis, and a
knob moved further only its layer and those behind. Ask from one thread: nothing here is locked.
"""

import asyncio
import base64
import itertools
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from stylex import given, pictures
from stylex.attfind import Search
from stylex.counterfactual import joint, subset
from stylex.data import read_images
from stylex.looking import spread
from stylex.metrics import l1
from stylex.model import Stages, StylEx, in_batches
from stylex.ops import ModulatedConv
from stylex.photos import Bytes, open_image, to_bytes, to_unit
from stylex.selection import CHANGED, stable
from stylex.shapes import Images, Logits, Styles
from stylex.stylespace import Attribute, shift

Moves = Mapping[int, float]  # coordinate: strength; below 0 towards the low bound, above the high
UPLOADS = 32  # kept; the oldest is forgotten
EXAMPLES = 8  # of each direction
CURVE = [i / 8 for i in range(-8, 9)]  # points of a curve, in the knob's range
FARTHEST = 2.0  # strength at which a knob ends, whatever the search's was
COLUMNS = 20  # of an atlas
COMPARED = 16  # images on which two runs are compared
AT_ONCE = 3  # images drawn before whoever waits for one gets it


class Session:
    """A model, what was found on it, and the images to look at.

    Args:
        model: the StylEx of the run.
        found: its search.
        names: of the images.
        styles: `[n, s]` of the images; by default those of the search images, of which no photos
            are kept.
        photos: `[n, c, h, w]`, where there are any.
    """

    def __init__(
        self,
        model: StylEx,
        found: Search,
        *,
        names: Sequence[str] = (),
        styles: Styles | None = None,
        photos: Images | None = None,
    ):
        self.model, self.found, self.photos = model, found, photos
        self.styles = found.styles if styles is None else styles
        self.names = list(names) or [f"search image {i + 1}" for i in range(len(self.styles))]
        self.strength = min(FARTHEST, found.strength)  # of a flip
        self.coordinates = {attribute.coordinate for attribute in found.attributes}
        self.stable = stable(found.effects)
        self._uploads: OrderedDict[int, tuple[Styles, Images]] = OrderedDict()
        self._numbers = itertools.count(len(self.styles))
        self._examples: dict[int, dict[str, Any]] = {}  # of each coordinate asked for
        self._stages: Stages | None = None  # of the image drawn last
        self.drawn, self.logits = self._in_batches(self.styles)
        self.seen = None if photos is None else in_batches(model.probabilities, photos)
        self.images = self._described()
        kinds = {"drawn": self.drawn, "photo": photos}
        self.atlases = {
            kind: pictures.atlas(images, COLUMNS)
            for kind, images in kinds.items()
            if images is not None
        }

    @classmethod
    def open(
        cls, run: str | Path, *, classifier: str | None, data: str | Path | None, images: int
    ) -> "Session":
        """Open a run that may be a stranger's: none of the code that it names is called.

        Args:
            run: directory of a run that was searched.
            classifier: as in `--classifier`, where the run keeps no copy of its own.
            data: images to look at; without them the reconstructions of the search are shown.
            images: most images.
        """
        model = given.load(run, classifier, strange=True)
        for layer in model.generator.synthesis.modules():
            if isinstance(layer, ModulatedConv):
                layer.settle()  # half the time of one image went into them
        found = Search.load(run)
        if data is None:
            return cls(model, found, styles=found.styles[spread(len(found.styles), images)])
        read = read_images(data, limit=images, seed=0, **model.sizes)
        photos = read.batch(slice(None))
        styles = in_batches(model.styles, photos)
        return cls(model, found, names=read.names, styles=styles, photos=photos)

    def _described(self) -> list[dict[str, Any]]:
        """Name, probabilities of photo and reconstruction, and L1 error of every image."""
        drawn = self.logits.softmax(1).tolist()
        photo = [None] * len(drawn) if self.seen is None else self.seen.tolist()
        error = [None] * len(drawn) if self.photos is None else l1(self.photos, self.drawn).tolist()
        return [
            {"name": name, "photo": _short(p), "drawn": _short(d), "l1": e}
            for name, p, d, e in zip(self.names, photo, drawn, error, strict=True)
        ]

    def atlas(self, kind: Literal["photo", "drawn"]) -> bytes:
        """All images of one kind as one WebP, in rows of twenty.

        Raises:
            KeyError: the run was opened without photos.
        """
        if kind not in self.atlases:
            raise KeyError("this run was opened without photos; add --data to the command")
        return self.atlases[kind]

    def decode(self, file: bytes) -> Bytes:
        """Somebody's image as the model takes it, `[1, c, h, w]`; asks no network.

        Raises:
            ValueError: it is no image that is taken.
        """
        return open_image(file, strange=True, **self.model.sizes)[None]

    def upload(self, pixels: Bytes) -> dict[str, Any]:
        """Encode somebody's decoded image; it stays in memory only, and only for a while."""
        photo = to_unit(pixels)
        with torch.inference_mode():
            styles, p = self.model.styles(photo), self.model.probabilities(photo)
        drawn, logits = self._draw(styles)
        number = next(self._numbers)
        self._uploads[number] = styles, photo
        if len(self._uploads) > UPLOADS:
            self._uploads.popitem(last=False)
        return {
            "image": number,
            "photo": _short(p[0].tolist()),
            "drawn": _short(logits[0].softmax(0).tolist()),
            "l1": l1(photo, drawn).item(),
            "pixels": _pixels(photo[0]),
        }

    def edit(self, image: int, moves: Moves) -> dict[str, Any]:
        """An image with coordinates moved: pixels and probabilities."""
        drawn, logits = self._draw(self._moved(self._of(image), moves))
        return {"pixels": _pixels(drawn[0]), "probabilities": _short(logits[0].softmax(0).tolist())}

    async def curve(self, image: int, moves: Moves, coordinate: int) -> dict[str, Any]:
        """Probabilities while one coordinate goes from one end of its knob to the other."""
        styles, end = self._of(image), max(1.0, self.strength)
        strengths = [end * x for x in CURVE]
        ways = [self._moved(styles, {**moves, coordinate: x}) for x in strengths]
        p = (await self._draw_all(torch.cat(ways)))[1].softmax(1)
        return {"strengths": strengths, "probabilities": [_short(row) for row in p.tolist()]}

    def flip(self, image: int, moves: Moves, target: int, frozen: Collection[int]) -> Any:
        """The greedy set of attributes that decides for the target (method.md 5), and no more.

        A step that later ones made superfluous is left out.

        Args:
            image: which one.
            moves: what stands now; of it the frozen coordinates stay where they are.
            target: index of the class.
            frozen: coordinates that must not change.
        """
        self._check(moves)
        held = {j: x for j, x in moves.items() if j in frozen}
        start = self._moved(self._of(image), held)
        free = [a for a in self.found.towards(target) if a.coordinate not in frozen]
        strength = self.strength
        steps = subset(
            self._score, start, self.found.bounds, free, target=target, strength=strength
        )
        flipped = bool(steps and steps[-1].flipped)
        used = [step.attribute for step in steps]
        used = self._needed(start, used, target) if flipped else used
        ways = {a.coordinate: _way(a.direction, strength) for a in used}
        logits = [self._with(start, used[:count]) for count in range(len(used) + 1)]
        return {
            "moves": held | ways,
            "steps": [
                {
                    "coordinate": a.coordinate,
                    "strength": ways[a.coordinate],
                    "probability": round(after.softmax(0)[target].item(), 4),
                }
                for a, after in zip(used, logits[1:], strict=True)
            ],
            "flipped": flipped or int(logits[0].argmax()) == target,
        }

    def _needed(self, start: Styles, used: list[Attribute], target: int) -> list[Attribute]:
        """The attributes of a flip without those, first ones first, that it does not need."""
        for one in used:
            others = [a for a in used if a is not one]
            if int(self._with(start, others).argmax()) == target:
                return self._needed(start, others, target)
        return used

    def _with(self, start: Styles, used: Sequence[Attribute]) -> Float[Tensor, " k"]:
        """Logits of one image with attributes on top of each other."""
        bounds, strength = self.found.bounds, self.strength
        return joint(self._score, start, bounds, used, strength=strength)[0]

    async def examples(self, coordinate: int) -> dict[str, Any]:
        """What one coordinate does to the search images, both ways, and where it acts.

        Effects are those of the search, in logits of the class that the direction raises most.
        """
        if coordinate not in self._examples:
            self._examples[coordinate] = await self._both_ways(coordinate)
        return self._examples[coordinate]

    async def _both_ways(self, coordinate: int) -> dict[str, Any]:
        rows, ways, changes = self.stable.nonzero().flatten(), [], []
        for direction in (0, 1) if len(rows) else ():
            effects = self.found.effects[rows, coordinate, direction]
            target = int(effects.mean(0).argmax())
            order = effects[:, target].argsort(descending=True, stable=True)[:EXAMPLES]
            styles = self.found.styles[rows[order]]
            to = self._moved(styles, {coordinate: _way(direction, self.found.strength)})
            before, after = (await self._draw_all(torch.cat([styles, to])))[0].chunk(2)
            changes.append((after - before).abs().mean(1))
            shown = zip(before, after, effects[order, target].tolist(), strict=True)
            ways.append(
                {
                    "direction": direction,
                    "target": target,
                    "effects": [round(e, 3) for e in effects[:, target].tolist()],
                    "examples": [
                        {"before": _pixels(b), "after": _pixels(a), "effect": round(e, 3)}
                        for b, a, e in shown
                    ],
                }
            )
        return {
            "ways": ways,
            "where": _pixels(pictures.heat(torch.cat(changes))) if changes else None,
        }

    def animation(
        self,
        image: int,
        moves: Moves,
        kind: Literal["GIF", "WEBP"],
        *,
        name: str = "",
        view: pictures.View = "after",
        edge: float = 0.5,
    ) -> bytes:
        """The reconstruction and what is shown in turn, at 600 ms (method.md 4.4), as one file.

        Args:
            image: which one; its photo stands beside, where there is one.
            moves: strength by coordinate.
            kind: of file.
            name: a line of words below.
            view: what is shown: the changed image, a split of both, or their difference.
            edge: where a split lies, 0 to 1 from the left.
        """
        styles, photo = self._of(image), self._photo(image)
        drawn, logits = self._draw(torch.cat([styles, self._moved(styles, moves)]))
        says = [self._decision(p) for p in logits.softmax(1)]
        left, beside = [], []
        if photo is not None:
            with torch.inference_mode():
                seen = self.model.probabilities(photo)[0]
            left, beside = [photo], [f"photo\n{self._decision(seen)}"]
        shown = (drawn[:1], pictures.seen(drawn, view, edge))
        words = (f"redrawn\n{says[0]}", f"{name or 'changed'}\n{says[1]}")
        frames = [
            pictures.captioned(torch.cat([*left, one]), [*beside, said])
            for one, said in zip(shown, words, strict=True)
        ]
        width = max(frame.width for frame in frames)
        first, second = (pictures.centred(frame, width) for frame in frames)
        more = {"append_images": [second], "duration": pictures.FLICKER_MS, "loop": 0}
        return pictures.encoded(first, kind, save_all=True, **more)

    def _decision(self, p: Float[Tensor, " k"]) -> str:
        """The class decided for, as the page's captions have it."""
        return f"{self.model.classes[int(p.argmax())]} {p.max():.0%}"

    async def against(self, other: "Session") -> list[dict[str, Any]]:
        """How far each attribute of this run moves this classifier and another one.

        Effects are means over up to 16 images, in logits of the class of the same name.
        """
        styles = self.styles[spread(len(self.styles), COMPARED)]
        before = (await self._draw_all(styles))[0]
        mine, yours = (session.classified(before) for session in (self, other))
        table = []
        for a in self.found.attributes:
            way = _way(a.direction, self.found.strength)
            after = (await self._draw_all(self._moved(styles, {a.coordinate: way})))[0]
            name = self.model.classes[a.target]
            theirs, ours = other.effect(yours, after, name), self.effect(mine, after, name)
            used = [e is not None and e > CHANGED for e in (ours, theirs)]
            table.append(
                {"coordinate": a.coordinate, "direction": a.direction, "target": a.target}
                | {"own": ours, "other": theirs, "used": used}
            )
        return table

    def classified(self, images: Images) -> Logits:
        """What this classifier says of images."""
        with torch.inference_mode():
            return self.model.classifier(images)

    def effect(self, before: Logits, after: Images, name: str) -> float | None:
        """Mean change of the logit of a class, None where this classifier has no such class.

        Args:
            before: what this classifier said of the unchanged images, see `classified`.
            after: the changed ones.
            name: of the class.
        """
        if name not in self.model.classes:
            return None
        change = self.classified(after) - before
        return round(change[:, self.model.classes.index(name)].mean().item(), 3)

    def _of(self, image: int) -> Styles:
        if 0 <= image < len(self.styles):
            return self.styles[image : image + 1]
        if image not in self._uploads:
            raise KeyError(f"there is no image {image} any more; add it again")
        self._uploads.move_to_end(image)
        return self._uploads[image][0]

    def _photo(self, image: int) -> Images | None:
        if image in self._uploads:
            return self._uploads[image][1]
        return None if self.photos is None else self.photos[image : image + 1]

    def _moved(self, styles: Styles, moves: Moves) -> Styles:
        self._check(moves)
        for coordinate, strength in moves.items():
            way = int(strength > 0)
            styles = shift(styles, coordinate, way, self.found.bounds, abs(strength))
        return styles

    def _check(self, coordinates: Iterable[int]) -> None:
        if unknown := set(coordinates) - self.coordinates:
            raise KeyError(f"coordinate {min(unknown)} is none of the attributes found")

    def _draw(self, styles: Styles) -> tuple[Images, Logits]:
        with torch.inference_mode():
            if len(styles) == 1:
                drawn, self._stages = self.model.redraw(styles, self._stages)
            else:
                drawn = self.model.synthesize(styles)
            return drawn, self.model.classifier(drawn)

    def _score(self, styles: Styles) -> Logits:
        return self._draw(styles)[1]

    async def _draw_all(self, styles: Styles) -> tuple[Images, Logits]:
        """Many images, a few at a time: whoever moves a knob meanwhile is answered in between."""
        parts = []
        for part in styles.split(AT_ONCE):
            parts.append(self._draw(part))
            await asyncio.sleep(0.001)  # less lets in nobody whose request has yet to be read
        return _joined(parts)

    def _in_batches(self, styles: Styles) -> tuple[Images, Logits]:
        return _joined([self._draw(part) for part in styles.split(32)])


def _joined(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Images, Logits]:
    drawn, logits = zip(*parts, strict=True)
    return torch.cat(drawn), torch.cat(logits)


def _way(direction: int, strength: float) -> float:
    """A direction and a strength as one signed number."""
    return strength if direction else -strength


def _short(shares: list[float] | None) -> list[float] | None:
    return None if shares is None else [round(share, 4) for share in shares]


def _pixels(image: Float[Tensor, "c h w"]) -> str:
    """Red, green and blue of every pixel, row by row, as base64."""
    rgb = to_bytes(image[None])[0].expand(3, -1, -1).permute(1, 2, 0)
    return base64.b64encode(rgb.contiguous().numpy().tobytes()).decode()
