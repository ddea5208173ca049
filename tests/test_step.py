"""One step: who learns, what D is told, and the traps of method.md section 3."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from small import draws, tiny, weighing
from torch import Tensor, nn

from stylex import step as module
from stylex.losses import perceptual_distance
from stylex.parallel import start
from stylex.plan import Tally
from stylex.step import Step

N = 8
OPTIONS: dict[str, Any] = {
    "seed": 0,
    "batch": N,
    "hide_p": 0.5,
    "judged_share": 1.0,
    "noise_share": 0.5,
    "mixing": 0.5,
    "hybrid_share": 0.0,
    "l1_weight": 1.0,
    "perceptual": "none",
    "perceptual_weight": 1.0,
    "w_weight": 0.1,
    "kl_weight": 1.0,
    "kl_share": 1.0,
    "condition": True,
    "loudness": 0.0,
    "adversarial_weight": 0.1,
    "adversarial_from_images": 0,
    "r1_gamma": 0.1,
    "r1_interval_steps": 16,
    "path_weight": 0.0,
    "path_interval_steps": 8,
    "few_weight": 0.0,
    "tied_weight": 0.0,
    "thin_weight": 0.0,
    "thin_free": 1.0,
    "thin_interval_steps": 4,
    "thin_spoilt": False,
    "augment": False,
    "rate": 0.002,
    "encoder_rate": 0.0004,
    "discriminator_rate": 0.001,
    "decay_share": 0.0,
    "total_images": 100 * N,
    "clip": 2.0,
    "ema_images": 10_000,
}


def make_step(*, precision: str = "fp32", **changed: Any) -> Step:
    """Tiny untrained networks around a classifier that looks at two quarters of an image."""
    classifier = weighing([[3.0, -3.0], [-2.0, 2.0], [0.0, 0.0], [0.0, 0.0]], [0.0, 0.0])
    options = SimpleNamespace(**OPTIONS | changed)
    trained, average = tiny(classifier), tiny(classifier)
    trained.requires_grad_(True)
    classifier.requires_grad_(False)
    trained.mean_p.copy_(torch.tensor([0.25, 0.75]))
    fabric = start(device="cpu", precision=precision)
    distance = perceptual_distance(options.perceptual, classifier)
    return Step(fabric, trained, average, distance, options)


def batch(step: Step, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Photos and the classifier's logits of them."""
    draw = torch.Generator().manual_seed(seed)
    gray = torch.rand(N, 3, 4, 4, generator=draw) * 2 - 1
    photos = nn.functional.interpolate(gray, size=(32, 32), mode="bilinear")
    return photos, step.trained.classifier(photos)


def weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the parameters."""
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def moved(network: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Names of the parameters that are not what they were."""
    return {n for n, value in network.named_parameters() if not torch.equal(value, before[n])}


# --- who learns ----------------------------------------------------------------------------------


def test_encoder_and_generator_learn_in_each_step_from_the_first():
    """Trap 1: nothing waits for an accumulation, D or the noise pass."""
    step = make_step(adversarial_from_images=2 * N)
    g, e, d = step.trained.generator, step.trained.encoder, step.trained.discriminator
    for number in range(4):
        before = [weights(network) for network in (g, e, d)]
        step(*batch(step, number), images_seen=number * N)
        learnt, encoder, judge = (moved(n, b) for n, b in zip((g, e, d), before, strict=True))
        assert encoder == set(before[1])
        assert learnt >= {n for n in before[0] if not n.startswith("mapping.")}
        begun = number >= 2
        assert any(name.startswith("mapping.") for name in learnt) == begun
        assert judge == (set(before[2]) if begun else set())


def test_the_tie_moves_the_mapping_alone():
    """M(z) is drawn to where E(x) lies, before D begins and without any other loss."""
    nothing = dict.fromkeys(("l1_weight", "perceptual_weight", "w_weight", "kl_weight"), 0.0)
    step = make_step(tied_weight=1.0, adversarial_from_images=10**9, rate=0.05, **nothing)
    photos, logits = batch(step)
    with torch.no_grad():
        step.trained.encoder.to_w.bias.add_(3.0)  # far from where M begins
    networks = (step.trained.generator, step.trained.encoder)
    before = [weights(network) for network in networks]
    losses = [step(photos, logits, images_seen=n * N)["tied"].item() for n in range(30)]
    assert moved(networks[1], before[1]) == set()
    assert moved(networks[0], before[0]) == {n for n in before[0] if n.startswith("mapping.")}
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


def test_only_adversarial_losses_reach_the_mapping(monkeypatch):
    """The noise pass is there from the start of D, beside the encoder pass (traps 6 and 9)."""
    step, drawn = make_step(), []
    real = step.from_noise
    monkeypatch.setattr(step, "from_noise", lambda *args: drawn.append(len(args[0])) or real(*args))
    losses = step(*batch(step), images_seen=0)
    assert drawn == [N // 2]
    assert set(losses) == {"l1", "perceptual", "w", "kl", "adversarial", "d", "d_right", "r1"}


def test_without_a_noise_share_nothing_is_drawn_from_noise():
    """The mean of w stays what it was; a mean over no image would be no number."""
    step = make_step(noise_share=0.0)
    before = weights(step.trained.generator.mapping)
    step(*batch(step), images_seen=0)
    assert moved(step.trained.generator.mapping, before) == set()
    assert (step.trained.generator.mapping.mean_w == 0).all()


def test_without_the_condition_nothing_hears_p():
    """Steps with D, noise, hybrids and KL: G and D stay deaf to p, and still they learn."""
    step = make_step(condition=False, hybrid_share=0.5)
    for network in (step.trained, step.average):
        network.forget_p()
        network.mean_p.fill_(0.5)
    before = weights(step.trained.generator)
    photos, logits = batch(step)
    for number in range(3):
        step(photos, logits, images_seen=number * N)
    assert moved(step.trained.generator, before) >= {"affine.weight", "affine.bias"}
    p, w = torch.eye(2)[torch.arange(N) % 2], step.trained.encode(photos)
    for network in (step.trained, step.average):
        s, other = network.style(w, p), network.style(w, p.flip(1))
        torch.testing.assert_close(s, other, atol=1e-5, rtol=0)
        real, same = (network.discriminator(photos, its) for its in (p, p.flip(1)))
        torch.testing.assert_close(real, same, atol=1e-5, rtol=0)


def test_hybrids_are_judged_as_the_class_the_classifier_sees(monkeypatch):
    """Half of the noise images are edits; D is told their own p, and only G learns from them."""
    step, heard = make_step(hybrid_share=0.5), []
    photos, logits = batch(step)
    p, discriminator = logits.softmax(1), step.trained.discriminator
    real = discriminator.forward
    monkeypatch.setattr(
        discriminator, "forward", lambda x, q: heard.append((x.detach(), q)) or real(x, q)
    )
    step(photos, logits, images_seen=0)
    (images, told), *_ = heard
    edits = slice(N // 4, N // 2)
    seen = step.trained.classifier(images[edits]).softmax(1)
    torch.testing.assert_close(told[edits], seen, rtol=1e-4, atol=1e-5)
    assert torch.equal(told[: N // 4], p[: N // 4])
    assert torch.equal(told[N // 2 :], p[N // 2 :])


def test_a_hybrid_is_between_two_photos():
    """Its styles are either one's or the other's; of equal photos they are the photo's own."""
    step = make_step()
    photos, logits = batch(step)
    w, p = step.trained.encoder(photos), logits.softmax(1)
    own, theirs = (step.trained.generator.style(*x) for x in ((w, p), (w.flip(0), p.flip(0))))
    assert torch.equal(step.hybrids(w, p, w, p, draws(0)), own)
    styles = step.hybrids(w, p, w.flip(0), p.flip(0), draws(0))
    assert ((styles == own) | (styles == theirs)).all()
    assert 0 < (styles == own).float().mean() < 1
    styles.sum().backward()
    assert all(x.grad is None for x in step.trained.encoder.parameters())


def test_each_network_has_its_own_rate():
    """Trap 4: Adam's first step moves the fastest weight by the rate itself."""
    step = make_step(w_weight=0.0)
    for name, rate in (("generator", 0.002), ("encoder", 0.0004), ("discriminator", 0.001)):
        assert [group["lr"] for group in step.optimisers[name].param_groups] == [rate]
    before = {name: weights(getattr(step.trained, name)) for name in step.optimisers}
    step(*batch(step), images_seen=0)
    for name, rate in (("generator", 0.002), ("encoder", 0.0004), ("discriminator", 0.001)):
        after = weights(getattr(step.trained, name))
        farthest = max((after[n] - old).abs().max().item() for n, old in before[name].items())
        assert farthest == pytest.approx(rate, rel=0.01)


def test_rates_fall_to_zero_at_the_end():
    """Over the last quarter along a line; without a share they stay."""
    for share, expected in ((0.25, [1.0, 1.0, 0.5, 0.04]), (0.0, [1.0, 1.0, 1.0, 1.0])):
        step = make_step(decay_share=share)
        for seen, factor in zip((0, 75, 87.5, 99), expected, strict=True):
            step.slow_down(int(seen * N))
            for name, rate in (("generator", 0.002), ("discriminator", 0.001)):
                (group,) = step.optimisers[name].param_groups
                assert group["lr"] == pytest.approx(rate * factor)


def test_the_classifier_never_learns():
    """It is frozen, and no optimiser holds it."""
    step = make_step(perceptual="none")
    held = {id(p) for o in step.optimisers.values() for g in o.param_groups for p in g["params"]}
    assert not held & {id(p) for p in step.trained.classifier.parameters()}
    assert len(held) == sum(
        len(list(getattr(step.trained, n).parameters())) for n in step.optimisers
    )


def test_no_network_is_wrapped():
    """Trap 8: neither by Fabric nor for DDP; every module is of this package or of torch.nn."""
    step = make_step()
    step(*batch(step), images_seen=0)
    for part in step.trained.modules():
        wrapped = (nn.parallel.DistributedDataParallel, nn.DataParallel)
        assert not isinstance(part, wrapped)
        assert not type(part).__module__.startswith("lightning")


# --- what D is told ------------------------------------------------------------------------------


def judged(step: Step, monkeypatch, **given: Any) -> list[tuple[Tensor, Tensor]]:
    """Images and p of each look that D takes in one step."""
    looks = []
    real = step.trained.discriminator.forward

    def forward(images: Tensor, p: Tensor) -> Tensor:
        looks.append((images.detach(), p))
        return real(images, p)

    monkeypatch.setattr(step.trained.discriminator, "forward", forward)
    step(*batch(step), **given)
    return looks


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_d_sees_photos_with_their_own_p_and_fakes_with_the_same(monkeypatch, share: float):
    """Trap 2: p is the softmax of the classifier's logits of these very photos."""
    step = make_step(judged_share=share, hide_p=1.0)
    photos, _ = batch(step)
    looks = judged(step, monkeypatch, images_seen=0)
    (fake, p0), (real, p1), (again, p2), (r1, p3) = looks
    seen = int(N * share)
    wanted = step.trained.classifier(photos[:seen]).softmax(1)
    assert wanted.std(0).min() > 0.05
    for p in (p0, p1, p2, p3):
        torch.testing.assert_close(p, wanted)
    assert torch.equal(real, photos[:seen])
    assert torch.equal(r1, photos[:seen])
    assert torch.equal(fake, again)
    assert fake.shape == real.shape


@pytest.mark.parametrize("augment", [False, True])
def test_augmentation_is_an_option(monkeypatch, augment: bool):
    """With it D never sees a photo as it is, except R1."""
    step = make_step(augment=augment)
    looks = judged(step, monkeypatch, images_seen=0)
    photos, _ = batch(step)
    assert torch.equal(looks[1][0], photos) != augment
    assert torch.equal(looks[3][0], photos)


def test_d_learns_from_detached_fakes():
    """Its loss leaves no gradient in the generator."""
    step = make_step(r1_interval_steps=99)
    photos, logits = batch(step)
    fakes = torch.zeros_like(photos).requires_grad_()
    draw = draws(0)
    losses = step.judge(photos, fakes.detach(), logits.softmax(1), logits.softmax(1), draw)
    losses["d"].backward()
    assert fakes.grad is None
    assert all(p.grad is not None for p in step.trained.discriminator.parameters())


# --- the condition -------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_share_of_hidden_p(share: float):
    """Trap 11: rows become the mean p or stay themselves; 0 and 1 are exact."""
    step = make_step(hide_p=share)
    p = torch.rand(10_000, 2, generator=torch.Generator().manual_seed(1)).softmax(1)
    hidden = step.hide(p, draws(2))
    is_mean = (hidden == step.trained.mean_p).all(1)
    assert torch.equal(hidden[~is_mean], p[~is_mean])
    assert is_mean.float().mean().item() == pytest.approx(share, abs=0.02 if 0 < share < 1 else 0)


def test_p_is_hidden_in_the_encoder_pass_alone(monkeypatch):
    """The noise pass keeps the photos' own p."""
    step, given = make_step(hide_p=1.0), []
    real = step.trained.generator.style
    monkeypatch.setattr(step.trained.generator, "style", lambda w, p: given.append(p) or real(w, p))
    photos, logits = batch(step)
    step(photos, logits, images_seen=0)
    encoder_pass, *noise_pass = given
    assert torch.equal(encoder_pass, step.trained.mean_p.expand_as(logits))
    assert noise_pass
    for p in noise_pass:
        torch.testing.assert_close(p, logits.softmax(1)[: N // 2])


# --- penalties and weights -----------------------------------------------------------------------


def penalties(step: Step, monkeypatch, steps: int) -> dict[str, list[tuple[int, bool, Any]]]:
    """Step number, whether autocast was on, and precision of each call of both penalties."""
    calls: dict[str, list[tuple[int, bool, Any]]] = {"r1_penalty": [], "path_lengths": []}
    for name, found in calls.items():
        real = getattr(module, name)

        def call(*args: Any, real: Any = real, found: list = found) -> Tensor:
            value = real(*args)
            found.append((number, torch.is_autocast_enabled("cpu"), value.dtype))
            return value

        monkeypatch.setattr(module, name, call)
    for number in range(steps):
        step(*batch(step, number), images_seen=number * N)
    return calls


def test_penalties_come_at_their_intervals_in_fp32(monkeypatch):
    """Also where the rest of the step runs in bf16."""
    options = {"r1_interval_steps": 2, "path_weight": 2.0, "path_interval_steps": 3}
    step = make_step(precision="bf16", adversarial_from_images=2 * N, **options)
    calls = penalties(step, monkeypatch, 7)
    assert calls["r1_penalty"] == [(number, False, torch.float32) for number in (2, 4, 6)]
    assert calls["path_lengths"] == [(number, False, torch.float32) for number in (3, 6)]


def test_path_length_is_left_out_unless_asked_for(monkeypatch):
    """It costs a double backward."""
    step = make_step(path_interval_steps=1)
    assert penalties(step, monkeypatch, 2)["path_lengths"] == []


def test_lazy_penalties_are_weighted_by_their_interval():
    """What is taken every k-th step counts k times."""
    losses = []
    for interval in (1, 4):
        step = make_step(r1_interval_steps=interval, path_weight=2.0, path_interval_steps=interval)
        losses.append(step(*batch(step), images_seen=0))
    assert losses[1]["r1"] / losses[0]["r1"] == pytest.approx(4)
    assert losses[1]["path"] / losses[0]["path"] == pytest.approx(4)


def test_reconstruction_losses_in_closed_form():
    """L1, w and KL of images that differ by a constant."""
    step = make_step(l1_weight=3.0, kl_weight=2.0)
    photos, logits = batch(step)
    redrawn = photos * 0.5
    w = step.trained.encoder(photos)
    losses = step.reconstruction(photos, redrawn, w, logits)
    assert losses["l1"].item() == pytest.approx(3 * 0.5 * photos.abs().mean().item(), rel=1e-5)
    p, q = logits.softmax(1), step.trained.classifier(redrawn).softmax(1)
    assert losses["kl"].item() == pytest.approx(
        2 * (p * (p / q).log()).sum(1).mean().item(), rel=1e-4
    )
    again = step.trained.encoder(redrawn[: N // 4])
    assert losses["w"].item() == pytest.approx(
        0.1 * (again - w[: N // 4]).abs().mean().item(), rel=1e-5
    )
    assert losses["perceptual"].item() == 0


def test_a_loud_classifier_does_not_drown_the_reconstruction():
    """KL of any weight sends no longer gradient into an image than L1; without a limit it does."""
    photos, logits = batch(make_step())
    redrawn = -photos
    lengths = {}
    for loudness in (0.0, 1.0, 2.0):
        step = make_step(kl_weight=1e4, w_weight=0.0, l1_weight=3.0, loudness=loudness)
        drawn = redrawn.clone().requires_grad_()
        losses = step.reconstruction(photos, drawn, step.trained.encoder(photos), logits)
        (of_kl,) = torch.autograd.grad(losses["kl"], drawn, retain_graph=True)
        (of_l1,) = torch.autograd.grad(losses["l1"], drawn)
        lengths[loudness] = of_kl[0].norm() / of_l1[0].norm()
    assert lengths[0.0] > 10
    assert lengths[1.0] == pytest.approx(1.0, rel=1e-4)
    assert lengths[2.0] == pytest.approx(2.0, rel=1e-4)


def test_thin_evidence_is_gathered_by_the_generator_alone():
    """A few steps on the penalty alone: fewer coordinates carry the class, the encoder is left."""
    step = make_step(rate=0.01)
    photos, logits = batch(step)
    w, p = step.trained.encoder(photos), logits.softmax(1)

    def thin() -> Tensor:
        return step.thin(w, p, draws(0))

    before = thin()
    optimiser = torch.optim.Adam(step.trained.generator.parameters(), lr=0.01)
    for _ in range(12):
        optimiser.zero_grad()
        thin().backward()
        optimiser.step()
    assert thin() < before - 0.2
    assert all(parameter.grad is None for parameter in step.trained.encoder.parameters())


def test_the_penalty_comes_at_its_interval_once_d_has_begun():
    """Every fourth step from D's first image on."""
    step = make_step(thin_weight=0.05, adversarial_from_images=2 * N)
    said = [number for number in range(10) if "thin" in step(*batch(step), images_seen=number * N)]
    assert said == [4, 8]


def test_share_of_the_batch_whose_kl_is_taken():
    """A slow classifier sees fewer images; the perceptual distance sees all."""
    step = make_step(kl_share=0.3)
    photos, _ = batch(step)
    distance, logits = step.compare(photos, photos)
    assert (len(distance), len(logits)) == (N, 3)


# --- the average ---------------------------------------------------------------------------------


def test_average_is_the_closed_form():
    """After k steps it is the sum over steps of (1 - keep) times what later steps keep of it."""
    step = make_step(ema_images=12, adversarial_from_images=99 * N)
    first = step.average.generator.affine.weight.detach().clone()
    seen, keeps = [], []
    for number in range(4):
        step(*batch(step, number), images_seen=number * N)
        seen.append(step.trained.generator.affine.weight.detach().clone())
        keeps.append(0.5 ** (N / min(12, 0.05 * number * N + N)))
    rest = torch.tensor([1.0, *keeps]).flip(0).cumprod(0).flip(0)  # what is kept from here on
    wanted = first * torch.tensor(keeps).prod()
    for value, keep, later in zip(seen, keeps, [*rest[2:], 1.0], strict=True):
        wanted = wanted + (1 - keep) * later * value
    torch.testing.assert_close(step.average.generator.affine.weight, wanted)


@pytest.mark.parametrize("name", ["generator", "encoder"])
def test_half_life_is_counted_in_images(name: str):
    """After so many images half of the old value is left, whatever the batch."""
    step = make_step(ema_images=4 * N)
    for value, network in ((1.0, step.trained), (0.0, step.average)):
        for parameter in getattr(network, name).parameters():
            parameter.data.fill_(value)
    for _ in range(4):
        step._average(1_000_000)
    for parameter in getattr(step.average, name).parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 0.5))


def test_the_average_has_the_newest_d_and_learns_nothing_itself():
    """D serves in checks of an explanation, not in it."""
    step = make_step()
    step(*batch(step), images_seen=0)
    new, own = step.trained.discriminator.state_dict(), step.average.discriminator.state_dict()
    assert all(torch.equal(own[name], new[name]) for name in new)
    assert not any(p.requires_grad for p in step.average.parameters())


# --- the same again ------------------------------------------------------------------------------


def run_steps(step: Step, numbers: range, **given: Any) -> dict[str, Tensor]:
    """Some steps, and the whole state after them."""
    for number in numbers:
        step(*batch(step, number), images_seen=number * N, **given)
    return {name: value.clone() for name, value in step.state().items()}


def test_state_holds_all_that_the_next_steps_need():
    """Weights, average, moments and path mean go through a new object bit for bit."""
    options = {
        "path_weight": 2.0,
        "path_interval_steps": 1,
        "r1_interval_steps": 2,
        "augment": True,
    }
    step = make_step(adversarial_from_images=N, **options)
    half = run_steps(step, range(3))
    straight = run_steps(step, range(3, 5))
    other = make_step(adversarial_from_images=N, **options)
    other.load_state(half)
    resumed = run_steps(other, range(3, 5))
    assert straight.keys() == resumed.keys()
    assert [name for name in straight if not torch.equal(straight[name], resumed[name])] == []
    assert {"mean_path", "adam.encoder.0.exp_avg_sq"} <= straight.keys()


def test_draws_depend_on_seed_place_and_attempt_alone():
    """The global random state is neither read nor written."""
    states = []
    for seed, attempt, disturbed in ((0, 0, 1), (0, 0, 2), (1, 0, 1), (0, 1, 1)):
        torch.manual_seed(disturbed)
        step = make_step(seed=seed)
        before = torch.random.get_rng_state()
        states.append(run_steps(step, range(1), attempt=attempt)["trained.encoder.to_w.weight"])
        assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert not torch.equal(states[0], states[3])


def test_bf16_stays_finite_and_keeps_fp32_weights():
    """Only the arithmetic inside is bf16."""
    step = make_step(precision="bf16", path_weight=2.0, path_interval_steps=1, augment=True)
    state = run_steps(step, range(3))
    assert bool(step.finite)
    assert all(value.isfinite().all() for value in state.values())
    assert {value.dtype for value in state.values()} == {torch.float32}


def test_a_gradient_that_is_no_number_is_noticed():
    """Even where the loss is one: the weights are spoilt."""
    step = make_step(adversarial_from_images=99 * N)
    step.trained.encoder.to_w.bias.register_hook(lambda gradient: gradient * float("nan"))
    losses = step(*batch(step), images_seen=0)
    assert all(value.isfinite() for value in losses.values())
    assert not step.finite


def test_gradients_are_clipped_per_network():
    """Each norm is at most `clip`; the direction stays."""
    norms = {}
    step = make_step(clip=0.01)
    for name, optimiser in step.optimisers.items():
        real = optimiser.step

        def clipped(name: str = name, real: Any = real) -> None:
            found = [p.grad for p in getattr(step.trained, name).parameters() if p.grad is not None]
            norms[name] = torch.stack([g.norm() for g in found]).norm().item()
            real()

        optimiser.step = clipped
    step(*batch(step), images_seen=0)
    assert set(norms) == {"generator", "encoder", "discriminator"}
    assert max(norms.values()) <= 0.01 * (1 + 1e-4)
    assert norms["generator"] == pytest.approx(0.01, rel=1e-3)


def test_tally_means_over_all_steps():
    """A loss that comes every second step counts half in the others' mean."""
    tally = Tally()
    for number in range(4):
        losses = {"l1": torch.tensor(float(number))}
        tally.add(losses if number % 2 else losses | {"r1": torch.tensor(8.0)})
    assert tally.means(Fabric(accelerator="cpu", devices=1)) == {"l1": 1.5, "r1": 4.0}
    assert tally.seconds() >= 0
