"""The whole evidence of a model, and three bad models caught by name."""

import pytest
import torch
from small import ROWS, Plain, quarters, searched, seeing, tiny
from torch import Tensor, nn

from stylex import evaluation, explaining
from stylex.classifier import Classifier
from stylex.classifying import fit
from stylex.scenes import LEAVES
from stylex.smallnet import SmallNet
from stylex.subjects import Subjects
from stylex.synthetic import draw_rule


def flat_features(images: Tensor) -> Tensor:
    """Mean grays of the 16 blocks of an image."""
    return nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), 4).flatten(1)


class Known(nn.Module):
    """M(z) of the closed form: grays as photos have them."""

    def forward(self, z: Tensor) -> Tensor:
        """`[n, 4]` to `[n, 4]` in [-0.8, 0.8]."""
        return 0.8 * (z / 2).tanh()


def evaluated(classifier=None, judges=(), **options) -> dict:
    """Everything, on a model in closed form."""
    model = Plain(classifier or seeing(0), **options)
    model.generator.latent = 4
    model.generator.mapping = Known()  # pyright: ignore[reportAttributeAccessIssue]
    found = searched(model, ROWS)
    return evaluation.evaluate(
        model,
        quarters(80, seed=1),
        found,
        train_images=quarters(200, seed=2),
        judges=judges,
        features=flat_features,
        features_name="blocks",
        distance=lambda a, b: (a - b).abs().mean((1, 2, 3)),
        distance_name="l1",
    )


@pytest.fixture(scope="module")
def good() -> dict:
    """An exact model with judges who look where the classifier looks."""
    return evaluated(judges=[seeing(0, gray=3.0), seeing(0, gray=5.0)])


def test_a_good_model_is_trusted(good):
    """No verdict, one attribute a class, all gates open."""
    assert good["verdicts"] == []
    assert [a["trusted"] for a in good["attributes"]] == [True, True]
    assert good["panel"]["ceiling"] == good["panel"]["share"] == 1.0
    assert good["sufficiency"]["no->yes"]["confirmed"] == [1.0]
    assert good["subset"]["no->yes"]["sizes"]
    assert good["stability"]["rank_biased_overlap"] == pytest.approx(1.0)


def test_an_exact_model_stands_beside_its_floors(good):
    """It loses nothing; four grays are four components, so PCA loses nothing either."""
    substrate = good["substrate"]
    assert substrate["l1"] == pytest.approx(0, abs=1e-5)
    assert substrate["l1_pca128"] == pytest.approx(0, abs=1e-3)
    assert substrate["features"] == "blocks"
    assert set(substrate["kid"]) == {"reconstruction", "noise", "pca128", "real_halves"}
    assert substrate["kid"]["reconstruction"] == pytest.approx(
        substrate["kid"]["real_halves"], abs=1e-5
    )
    assert abs(substrate["kid"]["real_halves"]) < 0.1


def test_condition_and_divergence_stand_for_all_five(good):
    """With the mean w the class is lost, and its KL is larger than that of the own w."""
    shares = good["agreement"]
    assert shares["own"] == shares["swapped_p"] == shares["mean_p"] == 1.0
    assert shares["mean_w"] < 0.7
    assert set(shares["kl_of"]) == {"own", "mean_w", "other_w", "swapped_p", "mean_p"}
    assert shares["kl_of"]["own"] == shares["kl"] < 1e-6 < shares["kl_of"]["mean_w"]


def test_a_model_that_ignores_its_encoder_is_named():
    """First bad model: the styles come from p alone."""
    table = evaluated(judges=[seeing(0)], by_w=0.0, by_p=0.8)
    assert "class from p alone" in [v["name"] for v in table["verdicts"]]
    assert not any(a["trusted"] for a in table["attributes"])
    shut = {g["name"] for g in table["attributes"][0]["gates"] if g["passed"] is False}
    assert "comes through w" in shut


def test_adversarial_attributes_are_named():
    """Second bad model: flips come from a faint checkerboard that only the classifier reads."""
    reads = seeing(0, gray=0.2, board=90.0)
    table = evaluated(reads, judges=[seeing(0)], smudge=0.02)
    first = [a for a in table["attributes"] if a["rank"] == 1]
    assert all(a["artefact"] and a["flipped"] > 0.9 for a in first)
    assert "attributes are adversarial" in [v["name"] for v in table["verdicts"]]
    assert "flipped" not in table["sufficiency"]["no->yes"] or (
        max(table["sufficiency"]["no->yes"]["flipped"]) < 0.2
    )  # it does not count


def test_a_classifier_of_shuffled_labels_is_named():
    """Third bad model: it learned what has nothing to do with the classes the judges know."""
    table = evaluated(seeing(2), judges=[seeing(0, gray=3.0), seeing(0)])
    assert "classifier unlike every judge" in [v["name"] for v in table["verdicts"]]
    assert not any(a["trusted"] for a in table["attributes"])
    assert table["panel"]["ceiling"] == pytest.approx(table["panel"]["chance"], abs=0.15)


@pytest.mark.slow
def test_a_classifier_trained_on_shuffled_labels_is_named():
    """The third with real networks: a judge that learned the true labels does not follow it."""
    rule, draw = draw_rule(0), torch.Generator().manual_seed(0)
    factors = [rule.sample(count, draw) for count in (1500, 200, 150)]
    train, held, test = (LEAVES.render(its) for its in factors)
    true, known = (rule.labels(its) for its in factors[:2])

    def learned(labels: Tensor, checked: Tensor, seed: int) -> Classifier:
        net, options = SmallNet(3, 2, resolution=32, width=16), {"flips": False, "blur": 0.0}
        options |= {"total_images": 6_000, "seed": seed}
        return fit(train, labels, held, checked, ("no", "yes"), network=net, **options)

    judge = learned(true, known, seed=1)
    mixed = [its[torch.randperm(len(its), generator=draw)] for its in (true, known)]
    named = {}
    for name, classifier in (("true", learned(true, known, 0)), ("mixed", learned(*mixed, 0))):
        model = tiny(classifier)
        found = explaining.search(model, held[:6], count=2)
        table = evaluation.evaluate(
            model, test, found, train_images=train[:50], judges=[judge], count=2
        )
        named[name] = "classifier unlike every judge" in [v["name"] for v in table["verdicts"]]
    assert named == {"true": False, "mixed": True}


def test_real_networks_go_through_without_judges_or_features():
    """Untrained, tiny; what was not measured says why."""
    model = tiny(seeing(0))
    found = explaining.search(model, quarters(6, seed=3), count=2)
    table = evaluation.evaluate(
        model, quarters(12, seed=1), found, train_images=quarters(40, seed=2), count=2
    )
    assert table["panel"] == {"judges": 0}
    assert table["substrate"]["kid"] is None
    assert table["substrate"]["why_kid"]
    assert table["substrate"]["perceptual"] is None
    assert all(a["panel"] is None and not a["trusted"] for a in table["attributes"])
    assert table["evaluated"]["images"] == 12


def test_the_same_seed_gives_the_same_numbers(good):
    """Noise, random coordinates and resampling come from the seed alone."""
    again = evaluated(judges=[seeing(0, gray=3.0), seeing(0, gray=5.0)])
    same = {k: v for k, v in again.items() if k != "evaluated"}
    assert same == {k: v for k, v in good.items() if k != "evaluated"}


def test_wrong_or_too_few_images_are_refused():
    """One line each."""
    model = Plain(seeing(0))
    found = searched(model, ROWS)
    given = {"train_images": quarters(20)}
    with pytest.raises(ValueError, match="this model was trained on"):
        evaluation.evaluate(model, torch.zeros(12, 3, 64, 64), found, **given)
    with pytest.raises(ValueError, match="needs 10 or more"):
        evaluation.evaluate(model, quarters(9), found, **given)


def test_panel_numbers_are_counted_by_hand():
    """A judge of another quarter agrees where both grays have one sign."""
    subjects = Subjects(Plain(seeing(0)), quarters(80), judges=[seeing(1)])
    gray = subjects.styles
    agree = ((gray[:, 0] > 0) == (gray[:, 1] > 0)).float().mean().item()
    table = evaluation.panel(subjects)
    yes, other = ((gray[:, k] > 0).float().mean().item() for k in (0, 1))
    assert table["ceiling"] == pytest.approx(agree)
    assert table["reconstruction"] == pytest.approx(agree)
    assert table["share"] == pytest.approx(1.0)
    assert table["chance"] == pytest.approx(yes * other + (1 - yes) * (1 - other))


def test_another_training_is_compared_by_what_it_changes():
    """The same model finds all of its attributes again, random coordinates only some."""
    model = Plain(seeing(0))
    found = searched(model, ROWS)
    table = evaluation.against(model, found, model, found, quarters(20))
    assert table["share"] == 1.0
    assert table["random_share"] in (0.0, 0.5, 1.0)
    with pytest.raises(ValueError, match="different classifiers"):
        evaluation.against(model, found, Plain(seeing(1)), found, quarters(20))
