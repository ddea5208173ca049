"""Searching, explaining one image, and sufficiency, on models whose answers are known by hand."""

from dataclasses import replace

import pytest
import torch
from small import SIDE, Quarters, begun, flat, searched, tiny, weighing

from stylex import attfind, choosing, explaining, parallel, stylespace
from stylex.attfind import Search
from stylex.data import ImageSet
from stylex.explaining import add_sufficiency, explain, search, sufficiency
from stylex.flips import STRENGTHS
from stylex.ledger import Ledger
from stylex.metrics import interval, random_attributes
from stylex.photos import to_bytes
from stylex.runs import Run, read_json
from stylex.stylespace import Attribute

# "yes" gains 1.0, 0.5 and 0.25 per gray of the first three quarters; "no" starts 0.6 ahead
UP = [[0.0, 1.0], [0.0, 0.5], [0.0, 0.25], [0.0, 0.0]]
GRAYS = [[-0.5] * 4, [0.5] * 4, [-0.5, 0.5, -0.5, 0.5]]


def model_of(margin: float = 0.6, error: float = 0.0, weights=UP) -> Quarters:
    """Four gray quarters, whose first three speak for "yes"."""
    return Quarters(weighing(weights, [margin, 0.0]), error)


def attribute(coordinate: int, direction: int = 1, target: int = 1) -> Attribute:
    """A move whose measured effect does not matter."""
    return Attribute(coordinate, direction, target, effect=0.0)


def holding(model: Quarters, *attributes: Attribute) -> Search:
    """A search with bounds from -0.5 to 0.5 and these attributes."""
    found = searched(model, GRAYS)
    return Search(**{**vars(found), "attributes": attributes})


# one image


def test_explain_by_hand():
    """At -0.5 everywhere: each quarter rises by 1, the first two pass the margin."""
    model = model_of(margin=0.0)
    found = holding(model, attribute(2), attribute(1), attribute(0), attribute(0, 0))
    answer = explain(model, flat([-0.5, -0.5, -0.5, 0.1]), found, target="yes", count=3)
    assert answer.target == 1
    assert answer.classes == ("no", "yes")
    assert answer.photo_logits == pytest.approx((0.0, -0.875))
    assert answer.reconstruction_logits == pytest.approx((0.0, -0.875))
    assert [s.attribute.coordinate for s in answer.independent] == [0, 1, 2]
    assert [s.effect for s in answer.independent] == pytest.approx([1.0, 0.5, 0.25])
    assert [s.flipped for s in answer.subset] == [True]
    assert answer.flipped_at == 1
    torch.testing.assert_close(answer.together, flat([0.5, -0.5, -0.5, 0.1]))
    torch.testing.assert_close(answer.alone[1:2], flat([-0.5, 0.5, -0.5, 0.1]))
    assert answer.l1 == pytest.approx(0.0, abs=1e-6)
    assert answer.perceptual is None
    assert answer.warnings == ()
    half = replace(found, strength=0.5)  # a search that went half way is answered half way
    answer = explain(model, flat([-0.5, -0.5, -0.5, 0.1]), half, target="yes", count=3)
    assert [s.effect for s in answer.independent] == pytest.approx([0.5, 0.25, 0.125])


@pytest.mark.parametrize(("margin", "at"), [(-9.0, 0), (0.0, 1), (0.5, 2), (0.8, 3), (9.0, None)])
def test_flipped_at(margin, at):
    """The number of attributes needed; 0 where none is, None where all do not suffice."""
    model = model_of(margin)
    found = holding(model, *(attribute(j) for j in range(4)))
    answer = explain(model, flat([-0.5] * 4), found, target=1)
    assert answer.flipped_at == at
    assert len(answer.subset) == (3 if at is None else at)  # the fourth quarter changes nothing
    assert answer.together.shape == (len(answer.subset), 3, SIDE, SIDE)
    assert [s.flipped for s in answer.subset] == [i == at for i in range(1, len(answer.subset) + 1)]


def test_each_step_is_drawn_on_top_of_the_earlier_ones():
    """The pictures together are those of the probabilities beside them."""
    model = model_of(0.8)
    found = holding(model, *(attribute(j) for j in range(3)))
    answer = explain(model, flat([-0.5, -0.4, -0.3, 0.0]), found, target=1)
    drawn = model.classifier(answer.together).softmax(1)[:, 1].tolist()
    assert drawn == pytest.approx([s.probability for s in answer.subset])
    alone = model.classifier(answer.alone).softmax(1)[:, 1].tolist()
    assert alone == pytest.approx([s.probability for s in answer.independent])


def test_strength_reaches_pictures_and_numbers():
    """Half way to the bound."""
    model = model_of(0.0)
    answer = explain(model, flat([-0.5] * 4), holding(model, attribute(0)), target=1, strength=0.5)
    assert answer.independent[0].effect == pytest.approx(0.5)
    torch.testing.assert_close(answer.alone, flat([0.0, -0.5, -0.5, -0.5]))


@pytest.mark.parametrize("strength", [0.0, -1.0, float("nan"), float("inf")])
def test_a_strength_that_is_none_is_refused(strength):
    """In one line, by the search too."""
    model = model_of(0.0)
    with pytest.raises(ValueError, match="wanted a number above 0"):
        explain(model, flat([-0.5] * 4), holding(model), target=1, strength=strength)
    with pytest.raises(ValueError, match="wanted a number above 0"):
        search(model, flat([-0.5] * 4).repeat(2, 1, 1, 1), strength=strength)


def test_count_is_for_each_alone_and_twice_together():
    """One is shown alone, two are combined: enough for this margin."""
    model = model_of(margin=0.5)
    found = holding(model, *(attribute(j) for j in range(4)))
    answer = explain(model, flat([-0.5] * 4), found, target=1, count=1)
    assert len(answer.independent) == len(answer.alone) == 1
    assert answer.flipped_at == 2


def test_disagreement_of_photo_and_reconstruction_is_said():
    """The encoder errs by 0.2: the photo is "no", its reconstruction "yes"."""
    model = model_of(margin=0.1, error=0.2)
    answer = explain(model, flat([0.0] * 4), holding(model, attribute(0)), target=1)
    assert answer.photo_logits == pytest.approx((0.1, 0.0))
    assert answer.reconstruction_logits == pytest.approx((0.1, 0.35), abs=1e-5)
    assert answer.l1 == pytest.approx(0.2)
    assert answer.flipped_at == 0
    (says,) = answer.warnings
    assert says.startswith("The classifier calls the photo no but its reconstruction yes")
    assert "not the photo" in says


def test_poor_reconstruction_is_said():
    """More than one and a half times the usual error, and only then."""
    model = model_of(margin=9.0, error=0.2)
    found = holding(model, attribute(0))
    for usual, warned in ((0.10, True), (0.13, True), (0.14, False), (None, False)):
        answer = explain(model, flat([0.0] * 4), found, target=1, usual_l1=usual)
        assert len(answer.warnings) == warned
    says = explain(model, flat([0.0] * 4), found, target=1, usual_l1=0.1).warnings[0]
    assert says.startswith("The reconstruction is poor: its error is 0.200")


def test_both_doubts_stand_together():
    """A bad reconstruction of another class says both."""
    model = model_of(margin=0.1, error=0.2)
    answer = explain(model, flat([0.0] * 4), holding(model, attribute(0)), target=1, usual_l1=0.01)
    assert len(answer.warnings) == 2


def test_perceptual_distance_is_of_photo_and_reconstruction():
    """What is handed in is called with the two."""
    model = model_of(margin=9.0, error=0.25)

    def farthest(photos, others):
        return (photos - others).abs().amax((1, 2, 3))

    found = holding(model, attribute(0))
    answer = explain(model, flat([0.0] * 4), found, target=1, distance=farthest)
    assert answer.perceptual == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("photo", "options", "says"),
    [
        (flat([0.0] * 4)[:, :, ::2, ::2], {}, r"images are \(3, 16, 16\).*\(3, 32, 32\).*load"),
        (flat([0.0] * 4)[:, :1], {}, r"images are \(1, 32, 32\)"),
        (flat([0.0] * 4), {"target": "maybe"}, "there is no class 'maybe'; choose one of no, yes"),
        (flat([0.0] * 4), {"target": 2}, "there is no class 2"),
        (flat([0.0] * 4), {"target": 0}, "no attributes towards no; repeat `stylex search`"),
        (flat([0.0] * 4), {"count": 0}, "count is 0; wanted 1 attribute or more"),
    ],
)
def test_errors_of_explain_are_one_line(photo, options, says):
    """What came, what was wanted, what to do."""
    model = model_of()
    found = holding(model, attribute(0))
    with pytest.raises(ValueError, match=says) as error:
        explain(model, photo, found, **{"target": "yes", **options})
    assert "\n" not in str(error.value)


# searching


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """Five images of noise."""
    return torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def real(gain: float = 4.0):
    """A real but untrained StylEx under a linear classifier."""
    weights = torch.tensor(UP) * gain
    weights[:, 0] -= torch.tensor([0.3, -0.6, 0.2, 0.9]) * gain
    return tiny(weighing(weights.tolist(), [0.0, 0.0]))


def test_search_is_attfind_from_images_to_attributes(photos):
    """The same as measuring by the definition, and selecting from that."""
    model, told, said = real(), [], []
    ledger = Ledger(progress=lambda done, total: told.append((done, total)))
    found = search(model, photos[:2], count=4, ledger=ledger, say=said.append)
    styles = model.styles(photos[:2])
    ends = stylespace.bounds(styles)
    j = model.layout.searched
    effects, logits = attfind.one_by_one(model.score, styles, ends, coordinates=j)
    expected = attfind.find(
        effects, logits, model.layout, classes=("no", "yes"), bounds=ends, styles=styles, count=4
    )
    torch.testing.assert_close(found.effects, effects, rtol=0, atol=1e-4)
    assert found.attributes
    expected = choosing.again(model, expected, count=4)
    assert {a.target for a in expected.attributes} == {0, 1}
    for ours, theirs in zip(found.attributes, expected.attributes, strict=True):
        assert (ours.coordinate, ours.direction, ours.target, ours.layer) == (
            theirs.coordinate,
            theirs.direction,
            theirs.target,
            theirs.layer,
        )
        assert ours.effect == pytest.approx(theirs.effect, abs=1e-4)
    most = 4 * j + 2 * (8 + 7 + 6 + 5)  # two images, four steps among eight moves
    assert 4 * j < told[-1][0] <= told[-1][1] == most
    assert said[0].startswith(f"exact ({4 * j:,} moves are no more than 250,000): about {most:,} ")
    alone = search(model, photos[:2], count=4, rule="cumulative")
    picked = attfind.find_again(found, model.layout, count=4).attributes
    assert [(a.coordinate, a.target) for a in alone.attributes] == [
        (a.coordinate, a.target) for a in picked
    ]
    assert found.made["images"] == 2
    assert found.made["seconds"] >= 0
    assert {"date", "machine", "left_out"} <= set(found.made)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["exact", "fast", "bf16"])
def test_search_on_a_gpu_is_the_one_on_the_cpu(mode, tmp_path):
    """Real networks: the same moves with the same effects, and tensors that lie on the CPU."""
    parallel.start(device="cuda", precision="fp32")  # without TF32
    model, photos = tiny(weighing(UP, [0.6, 0.0])), torch.rand(12, 3, SIDE, SIDE) * 2 - 1
    found = []
    for device in ("cpu", "cuda"):
        ledger = Ledger(tmp_path / device, memory="100MB")
        found.append(search(model.to(device), photos, mode=mode, count=3, ledger=ledger))
    first, second = found
    assert second.effects.device.type == second.styles.device.type == "cpu"
    moves = [[(a.coordinate, a.direction, a.target) for a in f.attributes] for f in found]
    assert moves[0] == moves[1]
    torch.testing.assert_close(first.logits, second.logits, atol=1e-4, rtol=1e-4)
    effects = [[a.effect for a in f.attributes] for f in found]
    assert effects[0] == pytest.approx(effects[1], abs=1e-4)
    new = choosing.again(model, second, count=3)  # its tensors come from the CPU
    assert [(a.coordinate, a.direction, a.target) for a in new.attributes] == moves[1]


def test_search_of_one_class_from_one_class(photos):
    """Options reach the selection."""
    model = real()
    found = search(
        model, photos[:3], target="yes", source="no", count=2, strength=0.5, rule="single"
    )
    assert {a.target for a in found.attributes} <= {1}
    assert (found.source, found.strength, found.rule) == (0, 0.5, "single")
    assert len(found.attributes) <= 2
    synthesis, styles = model.generator.synthesis, found.styles
    effects, _ = explaining.sweep.measure(
        synthesis, model.classifier, styles, found.bounds, strength=0.5
    )
    assert torch.equal(found.effects, effects)


def test_search_whose_images_are_all_unstable(photos):
    """Every effect is huge: all images are left out and nothing is found."""
    found = search(real(gain=1e4), photos[:2])
    assert found.made["left_out"] == found.made["images"] == 2
    assert found.attributes == ()


@pytest.mark.parametrize(
    ("some", "options", "says"),
    [
        (slice(0, 1), {}, "1 images came.*two or more; give more"),
        (slice(0, 0), {}, "0 images came"),
        (slice(0, 2), {"target": "maybe"}, "there is no class 'maybe'"),
        (slice(0, 2), {"target": "no", "source": "no"}, "both source and target"),
        (slice(0, 2), {"count": 0}, "count is 0"),
        (slice(0, 2), {"threshold": 0.0}, "threshold 0.0 explains every image"),
    ],
)
def test_errors_of_search_are_one_line(photos, some, options, says, monkeypatch):
    """A mistake is told before or after the sweep, in one line."""
    monkeypatch.setattr(explaining.sweep, "measure", _no_effects)
    with pytest.raises(ValueError, match=says) as error:
        search(real(), photos[some], **options)
    assert "\n" not in str(error.value)


def _no_effects(synthesis, classify, styles, bounds, **options):
    n, j = len(styles), synthesis.layout.searched
    return torch.zeros(n, j, 2, 2), torch.tensor([[0.0, 1.0]]).repeat(n, 1)


def test_search_refuses_images_of_another_size(photos):
    """With the way to load them right."""
    with pytest.raises(ValueError, match=r"images are \(3, 16, 16\).*load_images"):
        search(real(), photos[:, :, ::2, ::2])


# sufficiency


def test_sufficiency_by_hand():
    """Two of three "no" images can be lifted over the margin, the third starts too low."""
    model = model_of(margin=0.6)
    found = holding(model, attribute(0), attribute(1))  # to 0.5: 0.75 + gray / 4
    images = flat([0.0, 0, 0, 0], [0.0, 0, 0.3, 0], [0.0, 0, -0.9, 0], [0.9] * 4)
    pair = sufficiency(model, images, found)["no->yes"]
    assert pair["images"] == 3
    assert pair["share"] == pytest.approx(2 / 3)
    assert (pair["low"], pair["high"]) == pytest.approx(interval(2, 3))
    drawn = {a.coordinate: a.direction for a in random_attributes(2, coordinates=4, target=1)}
    lifted = images.clone()[:3]
    for j, d in drawn.items():
        lifted[:, :, (j // 2) * 16 :, :][:, :, :16, (j % 2) * 16 :][..., :16] = (-0.5, 0.5)[d]
    floor = model.classifier(lifted).argmax(1).float().mean().item()
    assert pair["random"] == pytest.approx(floor)


def test_sufficiency_takes_the_first_ones():
    """The top `count` of each target."""
    model = model_of(margin=0.6)
    found = holding(model, attribute(3), attribute(0), attribute(1))
    images = flat([0.0] * 4)
    assert sufficiency(model, images, found, count=2)["no->yes"]["share"] == 0
    assert sufficiency(model, images, found, count=3)["no->yes"]["share"] == 1


def test_sufficiency_without_attributes_or_images():
    """No attributes flip nothing; a class that no image is decided as has no row."""
    model = model_of(margin=0.6)
    table = sufficiency(model, flat([0.0] * 4), holding(model))
    assert set(table) == {"no->yes"}
    assert table["no->yes"]["share"] == table["no->yes"]["random"] == 0
    assert table["no->yes"]["high"] == pytest.approx(interval(0, 1)[1])


def test_sufficiency_of_three_classes_has_every_ordered_pair():
    """One class may be reached from one and not from the other."""
    weights = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    model = Quarters(weighing(weights, [0.0, 0.0, 0.0], ("a", "b", "c")))
    found = Search(
        **{
            **vars(searched(model, [[-0.5] * 4, [0.5] * 4])),
            "attributes": (attribute(0, 1, 0), attribute(1, 1, 1), attribute(2, 1, 2)),
        }
    )
    images = flat([0.4, 0, 0, 0], [0, 0.9, 0, 0], [0, 0, 0.4, 0])
    shares = {pair: row["share"] for pair, row in sufficiency(model, images, found).items()}
    assert shares == {"b->a": 0, "c->a": 1, "a->b": 1, "c->b": 1, "a->c": 1, "b->c": 0}


def test_sufficiency_goes_into_the_metrics(tmp_path):
    """Beside what is there, and in place of an earlier one."""
    model = model_of()
    run = begun(tmp_path / "run", model, sufficiency10={"no->yes": {"share": 1}})
    test = ImageSet(to_bytes(flat([0.0] * 4, [0.9] * 4)), ("a.png", "b.png"))
    found = holding(model, attribute(0), attribute(1))
    add_sufficiency(model, None, found, run, why="the photos are gone")
    table = read_json(Run(run).metrics)
    assert table["sufficiency10"] is None
    assert table["why_sufficiency10"] == "the photos are gone"
    add_sufficiency(model, test, found, run)
    table = read_json(Run(run).metrics)
    assert table["agreement"]["own"] == 0.9
    assert "why_sufficiency10" not in table
    assert set(table["sufficiency10"]) == {"no->yes", "yes->no"}
    row = table["sufficiency10"]["no->yes"]
    assert set(row) == {"share", "images", "low", "high", "random"}
    assert row["low"] <= row["share"] <= row["high"]


def test_sufficiency_takes_as_many_images_as_fit(tmp_path, monkeypatch):
    """Of a split of any size, all of which would not be held at once."""
    model = model_of()
    run = begun(tmp_path / "run", model)
    test = ImageSet(to_bytes(flat(*([[0.9] * 4] * 5))), tuple("abcde"))
    monkeypatch.setattr(explaining, "TEST_PIXELS", 2 * model.resolution**2)
    add_sufficiency(model, test, holding(model, attribute(0), attribute(1)), run)
    rows = read_json(Run(run).metrics)["sufficiency10"].values()
    assert sum(row["images"] for row in rows) == 2


@pytest.mark.parametrize("changed", [None, "attributes", "strength"])
def test_what_was_evaluated_of_another_search_goes(tmp_path, changed: str | None):
    """A page would tell of attributes that are no longer there, or moved otherwise."""
    model, kept = model_of(), attribute(0)
    one = {"target": kept.target, "coordinate": kept.coordinate, "direction": kept.direction}
    tried = {"attributes": [one], "evaluated": {"images": 9}, "verdicts": []}
    tried |= {"strength": {"strengths": list(STRENGTHS)}}
    run = begun(tmp_path / "run", model, **tried)
    found = holding(model, attribute(1 if changed == "attributes" else 0))
    if changed == "strength":
        found = replace(found, strength=2.0)
    add_sufficiency(model, None, found, run, why="no photos")
    table = read_json(Run(run).metrics)
    assert table["agreement"]["own"] == 0.9
    assert tried.keys() & table.keys() == (set() if changed else tried.keys())


# the discriminator filter
