"""One training step, read from top to bottom (method.md section 3).

Everything random comes from (seed, images seen, attempt), so a run that resumes needs no state of a
random generator, and on the CPU equals a straight run bit for bit. It is drawn for the whole batch,
whose images the ranks share out (`draws`, `parts`): each takes the first ones of its own wherever
one process takes the first ones of all, and what is a mean is one over the whole batch.
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from lightning.fabric import Fabric
from torch import Tensor, nn

from stylex.augment import diff_augment, spoil
from stylex.draws import Draw
from stylex.losses import (
    Distance,
    apart,
    discriminator_loss,
    feature_distance,
    generator_loss,
    kl,
    mix_cut,
    path_lengths,
    quieted,
    r1_penalty,
    thinness,
    varying,
)
from stylex.model import StylEx
from stylex.parallel import average_gradients, draw_for, mean, whole_batch
from stylex.parts import parts_of
from stylex.replay import Replay
from stylex.shapes import Images, Latents, Logits, Probabilities, Styles

Losses = dict[str, Tensor]
TIED = 4  # draws of M(z) for each photo where the two are compared


class Kind(NamedTuple):
    """Which parts a step has."""

    adversarial: bool
    path: bool
    thin: bool
    r1: bool


class Step:
    """The trained networks, their running average, three optimisers, and the step itself.

    Args:
        fabric: device, precision and ranks.
        trained: the networks that learn.
        average: the same networks, to hold the running average (EMA) that explains.
        distance: the perceptual distance.
        options: the keyword arguments of `training.train`.
    """

    def __init__(
        self,
        fabric: Fabric,
        trained: StylEx,
        average: StylEx,
        distance: Distance,
        options: SimpleNamespace,
    ):
        self.fabric, self.trained, self.average = fabric, trained, average
        self.distance, self.options = distance, options
        self.parts = parts_of(options, ranks=fabric.world_size)
        self.average.requires_grad_(False).eval()
        o = options
        # betas: no momentum in D, some in G and E (measured on the prototype)
        self.optimisers = {
            "generator": _adam(trained.generator, o.rate, betas=(0.5, 0.99)),
            "encoder": _adam(trained.encoder, o.encoder_rate, betas=(0.5, 0.99)),
            "discriminator": _adam(trained.discriminator, o.discriminator_rate, betas=(0.0, 0.99)),
        }
        self.mean_path = torch.zeros((), device=fabric.device)
        self.finite = torch.ones((), dtype=torch.bool, device=fabric.device)
        self.generator = torch.Generator(fabric.device)
        recorded = fabric.device.type == "cuda" and fabric.world_size == 1 and not o.thin_spoilt
        self.replay = Replay(self.learn, self.generator, on=recorded)

    def __call__(
        self, photos: Images, logits: Logits, *, images_seen: int, attempt: int = 0
    ) -> Losses:
        """Encoder pass and noise pass, then the discriminator; every step runs both (trap 1).

        Args:
            photos: this rank's images.
            logits: the classifier's, of these very images (trap 2).
            images_seen: over all ranks, before this step.
            attempt: how often the run has gone back after a not-a-number.
        """
        self.slow_down(images_seen)
        self.seed(images_seen, attempt)
        losses = self.replay(self.kind(images_seen), photos, logits)
        self._average(images_seen)
        return losses

    def kind(self, images_seen: int) -> Kind:
        """What the step at this place has: lazy penalties come once in so many steps."""
        o, number = self.options, images_seen // self.options.batch
        adversarial = images_seen >= o.adversarial_from_images
        path = adversarial and o.path_weight > 0 and number % o.path_interval_steps == 0
        thin = adversarial and o.thin_weight > 0 and number % o.thin_interval_steps == 0
        return Kind(adversarial, path, thin, adversarial and number % o.r1_interval_steps == 0)

    def learn(self, kind: Kind, photos: Images, logits: Logits) -> Losses:
        """The step itself, from the numbers that the generator has been seeded for."""
        o, g, e = self.options, self.trained.generator, self.trained.encoder
        draw = draw_for(self.fabric, self.generator)
        p = self.told(logits)
        seen = self.parts.judged
        photos_seen, p_seen = photos[:seen], p[:seen]
        self.trained.discriminator.requires_grad_(False)

        with self.fabric.autocast():
            w = e(photos)
            styles = own = g.style(w, self.hide(p, draw))
            p_fakes = p_seen
            if kind.adversarial:
                styles = torch.cat([own, self.others(w[:seen], p_seen, draw)])
            redrawn, others = g.synthesis(styles, draw).tensor_split([len(own)])
            losses = self.reconstruction(photos, redrawn, w, logits)
            if o.few_weight:
                losses["few"] = o.few_weight * varying(whole_batch(self.fabric, own))
            if o.tied_weight:
                losses["tied"] = o.tied_weight * self.tie(w, draw)
            fakes = torch.cat([others, redrawn[len(others) : seen]])
            if kind.adversarial:
                p_fakes = self.told_of(others, p_seen)
                verdict = self.trained.discriminator(self.augment(fakes, draw), p_fakes)
                losses["adversarial"] = o.adversarial_weight * generator_loss(verdict)
        if kind.path:
            losses["path"] = o.path_weight * o.path_interval_steps * self.path_penalty(p, draw)
        if kind.thin:
            losses["thin"] = o.thin_weight * o.thin_interval_steps * self.thin(w, p, draw)
        self._descend(sum(losses.values()), "generator", "encoder")

        if kind.adversarial:
            self.trained.discriminator.requires_grad_(True)
            losses |= self.judge(photos_seen, fakes.detach(), p_seen, p_fakes, draw)
            if kind.r1:
                penalty = r1_penalty(self.trained.discriminator, photos_seen, p_seen)
                losses["r1"] = 0.5 * o.r1_gamma * o.r1_interval_steps * penalty
            self._descend(sum(losses[k] for k in ("d", "r1") if k in losses), "discriminator")
        return {name: value.detach() for name, value in losses.items()}

    def slow_down(self, images_seen: int) -> None:
        """All rates fall to zero along a line over the last share of the training [O]."""
        o = self.options
        left = 1 - images_seen / o.total_images
        for name, rate in zip(
            self.optimisers, (o.rate, o.encoder_rate, o.discriminator_rate), strict=True
        ):
            now = rate * min(1.0, left / o.decay_share) if o.decay_share else rate
            for group in self.optimisers[name].param_groups:
                if isinstance(group["lr"], Tensor):  # where a recorded step reads it
                    group["lr"].fill_(now)
                else:
                    group["lr"] = now

    def told(self, logits: Logits) -> Probabilities:
        """The p that G and D are told: the classifier's; without the condition always the same."""
        return (logits if self.options.condition else torch.zeros_like(logits)).softmax(1)

    def hide(self, p: Probabilities, draw: Draw) -> Probabilities:
        """The mean p instead of the photo's own in a share of the encoder passes (trap 11).

        [O] D is still told the photo's own p: it is that photo that should come out.
        """
        hidden = draw.uniform(len(p), 1) < self.options.hide_p
        return torch.where(hidden, self.trained.mean_p.expand_as(p), p)

    def reconstruction(self, photos: Images, redrawn: Images, w: Latents, logits: Logits) -> Losses:
        """L_rec and L_cls; |E(x') - E(x)| on a quarter of the batch [O], it costs as much as E."""
        o, some = self.options, self.parts.quarter
        again = self.trained.encoder(redrawn[:some])
        longest = o.loudness * o.l1_weight
        distance, redrawn_logits = self.compare(photos, quieted(redrawn, longest))
        return {
            "l1": o.l1_weight * (redrawn - photos).abs().mean(),
            "perceptual": o.perceptual_weight * distance.mean(),
            "w": o.w_weight * (again - w[:some].detach()).abs().mean(),
            "kl": o.kl_weight * kl(logits[: len(redrawn_logits)], redrawn_logits).mean(),
        }

    def compare(
        self, photos: Images, redrawn: Images
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "m k"]]:
        """Perceptual distance, and logits of the first m images; one pass where one gives both."""
        classifier = self.trained.classifier
        if self.options.perceptual != "classifier":
            return self.distance(photos, redrawn), classifier(redrawn[: self.parts.compared])
        features, logits = classifier.features_and_logits(redrawn)
        with torch.no_grad():
            wanted = classifier.features(photos)
        return feature_distance(wanted, features), logits

    def others(self, w: Latents, p: Probabilities, draw: Draw) -> Float[Tensor, "m s"]:
        """What D judges in place of the first redrawn photos: some from noise, some hybrids."""
        noise, edited = self.parts.noise, self.parts.hybrids
        drawn, styles = noise - edited, []
        if drawn:
            styles.append(self.from_noise(p[:drawn], draw))
        if edited:
            partners, their_p = (whole_batch(self.fabric, rows.detach()) for rows in (w, p))
            partner = draw.integers(0, len(partners), edited)
            some = slice(drawn, noise)
            styles.append(self.hybrids(w[some], p[some], partners[partner], their_p[partner], draw))
        return torch.cat(styles) if styles else w.new_empty(0, self.trained.layout.size)

    def hybrids(
        self,
        w: Latents,
        p: Probabilities,
        others: Latents,
        their_p: Probabilities,
        draw: Draw,
    ) -> Styles:
        """Photos' styles with a random share of coordinates taken from other photos' styles [O].

        This is what an edit looks like.
        """
        g = self.trained.generator
        own, theirs = g.style(w.detach(), p), g.style(others.detach(), their_p)
        share, each = (draw.uniform(len(w), n) for n in (1, own.shape[1]))
        return torch.where(each < share**2, theirs, own)

    @torch.no_grad()
    def told_of(self, others: Float[Tensor, "m c h w"], p: Probabilities) -> Probabilities:
        """The p that D is told of the fakes: what they were drawn with (method.md 2).

        [O] Hybrids are judged under the probabilities that the classifier sees in them, so that a
        move that changes the class has to change what the class looks like.
        """
        drawn, noise = len(others) - self.parts.hybrids, len(others)
        edited = others.detach()[drawn:]
        seen = [self.told(self.trained.classifier(edited).float())] if len(edited) else []
        return torch.cat([p[:drawn], *seen, p[noise:]])

    def from_noise(self, p: Probabilities, draw: Draw) -> Styles:
        """The noise pass: w = M(z), styles mixed, with the batch's own p."""
        g = self.trained.generator
        first, second = g.mapping(self._latents(p, draw)), g.mapping(self._latents(p, draw))
        with torch.no_grad():
            g.mapping.mean_w.lerp_(mean(self.fabric, first.float().mean(0)), 0.005)
        cut = mix_cut(len(p), len(g.layout.widths), self.options.mixing, draw)
        return g.mixed_style(first, second, p, cut)

    def tie(self, w: Latents, draw: Draw) -> Tensor:
        """How far M(z) lies from these E(x), which stay where they are; for M alone [O]."""
        z = torch.cat([self._latents(w, draw) for _ in range(TIED)])
        drawn = whole_batch(self.fabric, self.trained.generator.mapping(z).float())
        return apart(drawn, whole_batch(self.fabric, w.detach()))

    def path_penalty(self, p: Probabilities, draw: Draw) -> Tensor:
        """(|J^T y| - running mean)^2 on half a batch, in fp32 (StyleGAN2, section 3.2)."""
        g, p = self.trained.generator, p[: self.parts.half]
        w = g.mapping(self._latents(p, draw))
        lengths = path_lengths(g.synthesis(g.style(w, p), draw), w, draw)
        self.mean_path.lerp_(mean(self.fabric, lengths.detach().mean()), 0.01)
        return (lengths - self.mean_path).square().mean()

    def thin(self, w: Latents, p: Probabilities, draw: Draw) -> Tensor:
        """How thinly the class is spread over StyleSpace (trap 13), on a quarter batch, in fp32.

        [O] What AttFind will measure as a coordinate's effect is nearly the slope of a logit along
        it times its range. The ranges and w are given here: only how the generator draws and where
        its affines put the class may change, or the penalty would empty the coordinates instead.
        """
        g, some = self.trained.generator, self.parts.quarter
        styles = g.style(w.float().detach(), p)
        drawn = g.synthesis(styles[:some], draw)
        logits = self.trained.classifier(spoil(drawn, draw) if self.options.thin_spoilt else drawn)
        asked = draw.integers(0, logits.shape[1], some, 1)
        lead = logits.gather(1, asked).sum() - logits.mean(1).sum()
        (slopes,) = torch.autograd.grad(lead, styles, create_graph=True)
        effects = slopes[:some] * whole_batch(self.fabric, styles.detach()).std(0)
        return thinness(effects[:, : g.layout.searched], self.options.thin_free)

    def judge(
        self,
        photos: Images,
        fakes: Images,
        p: Probabilities,
        p_fakes: Probabilities,
        draw: Draw,
    ) -> Losses:
        """D's loss and its share of right verdicts; each image comes with its own p (trap 2)."""
        with self.fabric.autocast():
            real = self.trained.discriminator(self.augment(photos, draw), p)
            fake = self.trained.discriminator(self.augment(fakes, draw), p_fakes)
        right = ((real > 0).float().mean() + (fake < 0).float().mean()) / 2
        return {"d": discriminator_loss(real, fake), "d_right": right}

    def augment(self, images: Images, draw: Draw) -> Images:
        """What D sees of real and fake images."""
        return diff_augment(images, draw) if self.options.augment else images

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, as named tensors."""
        state = {f"trained.{k}": v for k, v in self.trained.own_state().items()}
        state |= {f"average.{k}": v for k, v in self.average.own_state().items()}
        state["mean_path"] = self.mean_path
        for name, optimiser in self.optimisers.items():
            for index, moments in optimiser.state_dict()["state"].items():
                state |= {f"adam.{name}.{index}.{k}": v for k, v in moments.items()}
        return {name: value.contiguous() for name, value in state.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` gave."""
        self.trained.load_own_state(_below("trained.", state))
        self.average.load_own_state(_below("average.", state))
        self.mean_path.copy_(state["mean_path"])
        self.finite.fill_(True)
        self.replay.forget()
        for name, optimiser in self.optimisers.items():
            parameters = list(getattr(self.trained, name).parameters())
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in _below(f"adam.{name}.", state).items():
                index, kind = key.split(".")
                if kind != "step":  # the fused step reads memory in the parameter's own order
                    value = torch.empty_like(parameters[int(index)]).copy_(value)
                moments.setdefault(int(index), {})[kind] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})

    def seed(self, images_seen: int, attempt: int = 0) -> None:
        """Draw what belongs to this place of the training from now on."""
        # ints: not salted; the zero keeps the numbers of trainings before ranks shared them
        self.generator.manual_seed(hash((self.options.seed, images_seen, attempt, 0)) % 2**63)

    def _latents(self, rows: Tensor, draw: Draw) -> Latents:
        return draw.normal(len(rows), self.trained.generator.latent)

    def _descend(self, loss: Tensor | int, *names: str) -> None:
        """Backward, mean over ranks, clip each network's norm, one Adam step."""
        assert isinstance(loss, Tensor)
        self.finite &= loss.detach().isfinite()
        for name in names:
            self.optimisers[name].zero_grad(set_to_none=True)
        loss.backward()
        for name in names:
            parameters = [p for p in getattr(self.trained, name).parameters() if p.grad is not None]
            average_gradients(self.fabric, parameters)
            norm = nn.utils.clip_grad_norm_(parameters, self.options.clip)
            self.finite &= norm.isfinite()  # a finite loss can have a gradient that is not
            self.optimisers[name].step()

    @torch.no_grad()
    def _average(self, images_seen: int) -> None:
        """EMA of generator, encoder and mapping; its half-life grows with the run at first."""
        half_life = min(self.options.ema_images, 0.05 * images_seen + self.options.batch)
        keep = 0.5 ** (self.options.batch / half_life)
        for name in ("generator", "encoder"):
            ours = list(getattr(self.average, name).parameters())
            theirs = list(getattr(self.trained, name).parameters())
            torch._foreach_lerp_(ours, theirs, 1 - keep)  # pyright: ignore[reportPrivateImportUsage]
        self.average.generator.mapping.mean_w.copy_(self.trained.generator.mapping.mean_w)
        # D is no part of an explanation but of its checks: the newest one serves
        ours = [own.data for own in self.average.discriminator.parameters()]
        theirs = [new.data for new in self.trained.discriminator.parameters()]
        torch._foreach_copy_(ours, theirs)  # pyright: ignore[reportPrivateImportUsage]


def _adam(network: nn.Module, rate: float, *, betas: tuple[float, float]) -> torch.optim.Adam:
    parameters = list(network.parameters())
    shared: dict[str, Any] = {"betas": betas, "eps": 1e-8, "fused": True}
    if parameters[0].is_cuda:  # recorded steps read rate and count from the device
        now = torch.tensor(rate, device=parameters[0].device)
        return torch.optim.Adam(parameters, lr=now, capturable=True, **shared)
    return torch.optim.Adam(parameters, lr=rate, **shared)


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
