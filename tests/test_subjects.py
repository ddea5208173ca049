"""What is seen of the test images, in closed form."""

import pytest
import torch
from small import Plain, quarters, seeing
from torch import nn

from stylex.classifier import Classifier
from stylex.model import StylEx
from stylex.subjects import Drawn, Subjects


def subjects(judges=(), **options) -> Subjects:
    """Fifty photos and a model that redraws them exactly."""
    return Subjects(Plain(seeing(0), **options), quarters(50), judges=judges)


def test_an_exact_model_redraws_photo_and_logits():
    """Nothing is lost between photo, styles and reconstruction."""
    seen = subjects()
    torch.testing.assert_close(seen.redrawn.images, seen.photos)
    torch.testing.assert_close(seen.redrawn.logits, seen.photo.logits)
    torch.testing.assert_close(seen.p, seen.photo.logits.softmax(1))
    assert torch.equal(seen.labels, (seen.styles[:, 0] > 0).long())


def test_the_panel_speaks_by_mean_probability():
    """A sure judge outweighs an unsure one."""
    sure, unsure = seeing(0, gray=50.0), seeing(1, gray=0.5)
    photos = quarters(50)
    drawn = Drawn(photos, sure(photos), (sure, unsure))
    assert torch.equal(drawn.panel, (photos[:, 0, 0, 0] > 0).long())


def test_countable_images_are_those_on_which_the_panel_agrees():
    """Without judges none are; with a judge of another quarter about half."""
    assert not subjects().countable.any()
    assert subjects([seeing(0, gray=3.0)]).countable.all()
    other = subjects([seeing(1)])
    gray = other.styles
    assert torch.equal(other.countable, (gray[:, 0] > 0) == (gray[:, 1] > 0))


def test_a_judge_of_other_classes_is_refused():
    """In another order is other too: its first class is not ours."""
    turned = Classifier(seeing(0).model, ("yes", "no"), size=32, source="theirs")
    with pytest.raises(ValueError, match="judge theirs has the classes yes, no, the model no, yes"):
        subjects([turned])


def test_judges_are_asked_when_their_answer_is_wanted_and_once():
    """Not for drawing, once for any number of questions, and again about some of the images."""
    judge, asked = seeing(1), []
    judge.register_forward_hook(lambda _judge, images, _out: asked.append(len(images[0])))
    seen = subjects([judge])
    drawn = seen.draw(seen.styles)
    assert asked == []
    labels = drawn.panel
    assert drawn.panel is labels
    assert torch.equal(drawn.judged[0].argmax(1), labels)
    assert sum(asked) == 50
    assert torch.equal(drawn[torch.arange(5)].panel, labels[:5])
    assert sum(asked) == 55


def test_spreads_are_those_of_each_judges_own_logits():
    """Twice the weight, twice the spread."""
    own, judge = subjects([seeing(0, gray=3.6)]).logit_spreads
    torch.testing.assert_close(judge, 2 * own)


def test_photos_are_as_real_as_photos():
    """D's range holds all photos but the two per cent at its ends."""
    seen = subjects()
    assert seen.usual(seen.photo).float().mean() >= 0.96
    seen.__dict__["_realness"] = (1e6, 2e6)
    assert not seen.usual(seen.photo).any()


def test_distances_are_asked_of_the_given_one_only():
    """None stays None."""
    seen = subjects()
    assert seen.far(seen.photos, seen.photos) is None
    seen.distance = lambda a, b: (a - b).abs().mean((1, 2, 3))
    assert seen.far(seen.photos, seen.photos + 0.5) == 0.5


def test_an_image_is_as_usual_alone_as_among_others():
    """D compares the images that it is given together; how many are asked changes no verdict."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32**2, 2))
    model = StylEx(Classifier(network, classes=("no", "yes")), resolution=32).eval()
    model.discriminator.last.weight.data[:, -1] *= 100  # what the deviation of a group does
    seen = Subjects(model, torch.rand(64, 3, 32, 32) * 2 - 1, judges=[])
    several = seen.usual(seen.photo)
    for count in (1, 7, 61):
        some = seen._seen(seen.photos[:count])
        assert torch.equal(seen.usual(some), several[:count])
