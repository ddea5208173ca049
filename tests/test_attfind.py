"""AttFind in closed form: with `score(styles) = styles @ A` every number is known by hand."""

import json
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylex.attfind import Search, batched, find, find_again, one_by_one
from stylex.runs import Run, write_json
from stylex.selection import considered, merge_binary, participation_ratio, select, stable, turned
from stylex.stylespace import Attribute, Layout, bounds

quick = settings(max_examples=15, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)


def normal(*shape, seed=0):
    """Seeded float64 numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(weights):
    """A score that is one matrix."""
    return lambda styles: styles @ weights


def pairs(attributes):
    """Coordinate and direction of each."""
    return [(a.coordinate, a.direction) for a in attributes]


def rises(target, classes, moves):
    """Effects that are zero but for `moves`: (coordinate, direction) -> rise of each image."""
    images = len(next(iter(moves.values())))
    effects = torch.zeros(images, 1 + max(j for j, _ in moves), 2, classes)
    for (coordinate, direction), values in moves.items():
        effects[:, coordinate, direction, target] = torch.tensor(values)
    return effects


def predicted(*labels, classes=2):
    """Base logits with these labels."""
    return torch.nn.functional.one_hot(torch.tensor(labels), classes).float()


# --- measuring (method.md 4.1)


@pytest.mark.parametrize("strength", [1.0, 2.5])
@pytest.mark.parametrize("classes", [2, 3])
def test_effects_equal_the_closed_form(strength, classes):
    """effect[n, j, d, k] = strength * (bound[d, j] - s[n, j]) * A[j, k]."""
    styles, weights = normal(5, 4), normal(4, classes, seed=1)
    limits = bounds(styles)
    effects, logits = one_by_one(linear(weights), styles, limits, coordinates=3, strength=strength)
    room = (limits[None] - styles[:, None])[..., :3].transpose(1, 2)
    torch.testing.assert_close(effects, strength * room[..., None] * weights[:3, None])
    torch.testing.assert_close(logits, styles @ weights)


@quick
@given(
    seed=seeds,
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(2, 4)),
    batch=st.integers(1, 20),
    strength=st.floats(0.25, 3),
)
def test_batched_equals_one_by_one(seed, sizes, batch, strength):
    """The fast measurement is tied to the slow one, whatever the batch."""
    images, coordinates, classes = sizes
    styles = normal(images, 6, seed=seed).float()
    weights = normal(6, classes, seed=seed + 1).float()
    options = {"coordinates": coordinates, "strength": strength}

    def score(styles):
        return torch.tanh(styles @ weights) + (styles**2).mean(1, keepdim=True)

    slow = one_by_one(score, styles, bounds(styles), **options)
    fast = batched(score, styles, bounds(styles), batch=batch, **options)
    for a, b in zip(slow, fast, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_images_on_the_bound_are_not_scored_and_have_no_effect():
    """Each coordinate has one image on its low and one on its high bound."""
    styles, scored = normal(4, 3), []

    def drifting(styles):
        scored.append(len(styles))
        return styles @ normal(3, 2, seed=1) + len(scored)  # no two calls agree

    effects, _ = batched(drifting, styles, bounds(styles), coordinates=3)
    on_bound = (bounds(styles)[:, None] == styles).permute(1, 2, 0)
    assert (effects[on_bound] == 0).all()
    assert (effects[~on_bound] != 0).all()
    assert sum(scored) == 4 + 4 * 3 * 2 - 3 * 2


def test_images_that_cannot_move_are_never_scored():
    """One image is its own bounds."""
    styles = normal(1, 3)
    effects, _ = batched(linear(normal(3, 2)), styles, bounds(styles), coordinates=3)
    assert effects.abs().max() == 0


@pytest.mark.parametrize("batch", [1, 3, 5, 100])
def test_calls_stay_within_the_batch_and_progress_adds_up(batch):
    """Memory is bounded by `batch`; progress counts every perturbation once."""
    sizes, done = [], []

    def score(styles):
        sizes.append(len(styles))
        return styles @ normal(4, 2)

    styles = normal(5, 4)
    batched(score, styles, bounds(styles), coordinates=4, batch=batch, progress=done.append)
    assert max(sizes) <= batch
    assert sum(done) == 5 * 4 * 2


def test_measuring_keeps_no_graph_and_no_change_of_the_styles():
    """Effects need no gradient, and the styles come back as they were."""
    styles, weights = normal(3, 4), normal(4, 2).requires_grad_()
    before = styles.clone()
    for measure in (one_by_one, batched):
        effects, logits = measure(linear(weights), styles, bounds(styles), coordinates=4)
        assert not effects.requires_grad
        assert not logits.requires_grad
        assert torch.equal(styles, before)


@quick
@given(seed=seeds, order=st.permutations(range(5)))
def test_permuting_coordinates_permutes_everything(seed, order):
    """Neither effects nor the choice depend on where a coordinate stands."""
    styles, weights = normal(6, 5, seed=seed), normal(5, 3, seed=seed + 1)
    effects, logits = batched(linear(weights), styles, bounds(styles), coordinates=5)
    moved, _ = batched(
        linear(weights[order]), styles[:, order], bounds(styles[:, order]), coordinates=5
    )
    torch.testing.assert_close(moved, effects[:, order])
    here, there = select(effects, logits, target=1), select(moved, logits, target=1)
    assert pairs(here) == [(order[j], d) for j, d in pairs(there)]


@quick
@given(seed=seeds)
def test_a_class_that_never_moves_changes_nothing(seed):
    """A column of constant, very low logits leaves the other classes' attributes alone."""
    styles, weights = normal(6, 5, seed=seed), normal(5, 3, seed=seed + 1)

    def more(styles):
        return torch.cat([styles @ weights, torch.full((len(styles), 1), -99.0)], 1)

    three = batched(linear(weights), styles, bounds(styles), coordinates=5)
    four = batched(more, styles, bounds(styles), coordinates=5)
    assert (four[0][..., 3] == 0).all()
    for target in range(3):
        assert select(*three, target=target) == select(*four, target=target)
    assert select(*four, target=3) == []


@quick
@given(seed=seeds)
def test_negated_logits_turn_the_directions(seed):
    """What went up to raise the class now goes down."""
    half, weights = normal(4, 5, seed=seed), normal(5, 3, seed=seed + 1)
    styles = torch.cat([half, -half])  # symmetric, so that low and high mirror each other
    plain = batched(linear(weights), styles, bounds(styles), coordinates=5)
    negated = batched(linear(-weights), styles, bounds(styles), coordinates=5)
    turned_round = [(j, 1 - d) for j, d in pairs(select(*plain, target=0))]
    assert pairs(select(*negated, target=0)) == turned_round
    assert turned_round


# --- cleaning (method.md 4.2)


def test_unstable_is_more_than_the_notebooks_750_entries():
    """At the notebook's size 750 large entries stay and 751 are left out."""
    effects = torch.zeros(3, 5760 * 2 * 2)
    effects[0, :750] = 2.5
    effects[1, :751] = -2.5
    effects[2] = 2.0  # not above 2
    assert stable(effects.view(3, 5760, 2, 2)).tolist() == [True, False, True]


def test_unstable_share_scales_with_coordinates_and_classes():
    """One large entry of 4 is too many, one of 40 is not."""
    effects = torch.zeros(1, 10, 2, 2)
    effects[0, 0, 0, 0] = 3.0
    assert stable(effects).tolist() == [True]
    assert stable(effects[:, :1]).tolist() == [False]
    assert stable(effects, share=0.0).tolist() == [False]
    assert stable(effects, share=0.0, size=3.0).tolist() == [True]


# --- selecting (method.md 4.3)


def test_considered_images():
    """Two classes: the other class; one-vs-all: all; one-vs-one: the source's."""
    assert considered(predicted(0, 1, 0), target=0).tolist() == [False, True, False]
    three = predicted(0, 1, 2, classes=3)
    assert considered(three, target=0).tolist() == [True, True, True]
    assert considered(three, target=0, source=2).tolist() == [False, False, True]
    with pytest.raises(ValueError, match="class 1 is both source and target"):
        considered(three, target=1, source=1)


def test_cumulative_rule_by_hand():
    """Explained images leave the mean; it ends where nothing raises the rest."""
    moves = {
        (0, 1): [0.8, 0.0],  # mean 0.4: first
        (1, 0): [0.5, 0.2],  # mean 0.35: second; image 0 has 1.3 and leaves
        (2, 1): [0.0, 0.6],  # 0.6 on image 1: third, though its mean over both is the smallest
        (3, 0): [0.66, 0.0],  # nothing for image 1: never
        (3, 1): [0.0, -5.0],
    }
    found = select(rises(1, 2, moves), predicted(0, 0), target=1, count=10)
    assert pairs(found) == [(0, 1), (1, 0), (2, 1)]
    assert [a.effect for a in found] == pytest.approx([0.4, 0.35, 0.3])
    assert [a.share for a in found] == [0.5, 0.5, 0.5]  # 0.2 is not above 0.2
    assert {a.target for a in found} == {1}


def test_negative_effects_are_clipped():
    """A move that harms one image still counts for those it helps, and undoes no gain."""
    moves = {(0, 0): [0.5, 1.2], (1, 0): [1.0, -3.0], (2, 0): [0.0, 0.3]}
    found = select(rises(1, 2, moves), predicted(0, 0), target=1)
    assert pairs(found) == [(0, 0), (1, 0)]  # image 1 stays explained, so (2, 0) has nothing to do
    assert found[1].effect == pytest.approx(-1.0)  # reported as measured


def test_single_rule_by_hand():
    """Small effects never add up; one large effect explains; a coordinate is taken once."""
    moves = {
        (0, 1): [0.6, 0.6],
        (0, 0): [0.5, 0.5],
        (1, 0): [0.1, 0.1],
        (2, 1): [0.0, 0.9],
        (3, 0): [0.4, 0.0],
    }
    effects, logits = rises(1, 2, moves), predicted(0, 0)
    by = {rule: select(effects, logits, target=1, rule=rule) for rule in ("cumulative", "single")}
    assert pairs(by["cumulative"]) == [(0, 1), (0, 0)]  # 0.6 + 0.5 explain both images
    assert pairs(by["single"]) == [(0, 1), (2, 1), (3, 0), (1, 0)]
    large = select(effects, logits, target=1, rule="single", threshold=0.9)
    assert pairs(large) == [(0, 1), (2, 1), (3, 0), (1, 0)]  # image 1 leaves after (2, 1)
    assert pairs(select(effects, logits, target=1, rule="single", threshold=0.6)) == [(0, 1)]


def test_share_rule_by_hand():
    """What changes most images comes first, however little; explained images go on voting."""
    moves = {
        (0, 1): [5.0] + [0.0] * 39,  # 1 of 40 images: under 3 %
        (1, 0): [0.3] * 30 + [-1.0] * 10,
        (2, 1): [0.25] * 40,
        (3, 0): [0.2] * 40,  # not above 0.2
        (4, 1): [0.4] * 30 + [0.0] * 10,
    }
    effects, logits = rises(1, 2, moves), predicted(*[0] * 40)
    found = select(effects, logits, target=1, rule="share")
    assert pairs(found) == [(2, 1), (4, 1), (1, 0)]
    assert [a.share for a in found] == [1.0, 0.75, 0.75]
    assert pairs(select(effects, logits, target=1, rule="share", count=1)) == [(2, 1)]


def test_images_of_the_target_do_not_vote():
    """Effect and share are over the images considered too."""
    moves = {(0, 1): [0.3, 9.0], (1, 1): [0.4, 0.0]}
    found = select(rises(1, 2, moves), predicted(0, 1), target=1)
    assert [(a.coordinate, a.effect, a.share) for a in found] == [
        (1, pytest.approx(0.4), 1.0),
        (0, pytest.approx(0.3), 1.0),
    ]


@pytest.mark.parametrize("rule", ["cumulative", "single", "share"])
def test_selection_ends(rule):
    """No image to consider, or nothing that raises the logit: an empty list, no coordinate 0."""
    effects = rises(1, 2, {(0, 0): [1.0, 1.0]})
    assert select(effects, predicted(1, 1), target=1, rule=rule) == []
    assert select(-effects, predicted(0, 0), target=1, rule=rule) == []
    assert select(effects[:0], predicted(0, 0)[:0], target=1, rule=rule) == []
    assert select(effects, predicted(0, 0), target=1, rule=rule, count=0) == []


def test_thresholds_by_default():
    """1.0 logit for two classes, 0.5 for more."""
    moves = {(0, 0): [0.6], (1, 0): [0.5], (2, 0): [0.4]}
    assert len(select(rises(1, 2, moves), predicted(0), target=1)) == 2
    assert len(select(rises(1, 3, moves), predicted(0, classes=3), target=1)) == 1
    with pytest.raises(ValueError, match=r"threshold 0\.0 explains every image"):
        select(rises(1, 2, moves), predicted(0), target=1, threshold=0.0)


@quick
@given(seed=seeds, classes=st.integers(2, 3), count=st.integers(1, 30))
def test_selection_never_repeats(seed, classes, count):
    """No move twice; by the paper's rule no coordinate twice; never more than asked for."""
    effects, logits = normal(5, 6, 2, classes, seed=seed), normal(5, classes, seed=seed + 1)
    for target in range(classes):
        options = {"target": target, "count": count, "threshold": 50.0}
        moves = pairs(select(effects, logits, **options))
        assert len(moves) == len(set(moves)) <= count
        coordinates = [j for j, _ in pairs(select(effects, logits, rule="single", **options))]
        assert len(coordinates) == len(set(coordinates)) <= count


# --- two classes in one list


def binary_case():
    """Effects `[2, 3, 2, 2]` of one image of each class, known by hand."""
    effects = torch.zeros(2, 3, 2, 2)
    effects[:, 0, 1, 0], effects[:, 0, 0, 1] = 0.5, 0.1  # sum 0.6
    effects[:, 1, 0, 0], effects[:, 1, 1, 1] = 0.1, 0.9  # sum 1.0
    effects[:, 2, 0, 0], effects[:, 2, 1, 1] = -0.2, 0.4  # sum 0.2: raises class 1 only
    return effects, predicted(0, 1)


def test_merge_by_hand():
    """Joined by coordinate, turned round, ranked by both classes' mean rises."""
    effects, logits = binary_case()
    first, second = (select(effects, logits, target=t, threshold=9.0) for t in (0, 1))
    assert pairs(first) == [(0, 1), (1, 0)]
    assert pairs(second) == [(1, 1), (2, 1), (0, 0)]
    merged = merge_binary(first, second, effects, logits)
    assert pairs(merged) == [(1, 0), (0, 1), (2, 0)]
    assert [a.target for a in merged] == [0, 0, 0]
    assert [a.effect for a in merged] == pytest.approx([0.1, 0.5, -0.2])
    other = [turned(a, effects, logits) for a in merged]
    assert pairs(other) == [(1, 1), (0, 0), (2, 1)]
    assert [a.effect for a in other] == pytest.approx([0.9, 0.1, 0.4])


def test_merge_drops_a_coordinate_that_class_0_has_in_either_direction():
    """It is the coordinate that must be new, not the move."""
    effects, logits = binary_case()
    first = [Attribute(1, 0, 0, 0.0)]
    for direction in (0, 1):
        assert merge_binary(first, [Attribute(1, direction, 1, 0.9)], effects, logits) == first


def test_merge_leaves_out_what_raises_neither_class():
    """Chosen for one image that nothing else explained, it lowers the others by more."""
    effects, logits = torch.zeros(4, 2, 2, 2), predicted(1, 1, 1, 0)
    effects[:3, 0, 1, 0] = torch.tensor([2.0, 2.0, 0.0])  # towards class 0, not for image 2
    effects[:3, 1, 0, 0] = torch.tensor([-3.0, -3.0, 1.5])  # which this one explains
    first = select(effects, logits, target=0)
    assert pairs(first) == [(0, 1), (1, 0)]
    assert pairs(merge_binary(first, [], effects, logits)) == [(0, 1)]


def test_turned_twice_is_the_same():
    """Effect and share are measured anew over each target's own images."""
    effects, logits = normal(6, 4, 2, 2), normal(6, 2, seed=1)
    for attribute in select(effects, logits, target=1):
        assert turned(turned(attribute, effects, logits), effects, logits) == attribute


def test_turned_without_an_image_of_the_other_class():
    """Nothing was measured: 0, not NaN."""
    effects, _ = binary_case()
    attribute = turned(Attribute(0, 1, 0, 0.5), effects, predicted(1, 1))
    assert (attribute.effect, attribute.share) == (0.0, 0.0)


def test_participation_ratio():
    """1 for one move, 2j for equal ones, unmoved images left out."""
    effects = torch.zeros(3, 4, 2)
    assert participation_ratio(effects) == 0.0
    effects[0, 1, 0] = -0.3
    effects[1] = 0.2
    assert participation_ratio(effects[:1]) == pytest.approx(1.0)
    assert participation_ratio(effects) == pytest.approx((1 + 8) / 2)


# --- a whole search

LAYOUT = Layout(widths=(2, 1), resolutions=(4, 8), rgb_widths=(3,))


def search(effects, logits, classes=("healthy", "sick"), layout=LAYOUT, **options):
    """A search over styles and bounds that do not matter."""
    styles = normal(len(effects), 6).float()
    return find(
        effects, logits, layout, classes=classes, bounds=bounds(styles), styles=styles, **options
    )


def test_find_gives_both_sides_of_one_ranking():
    """Two classes: the same coordinates in the same order, turned, with layer and resolution."""
    found = search(*binary_case(), threshold=9.0, made={"seconds": 1.5})
    healthy, sick = found.towards("healthy"), found.towards(1)
    assert pairs(healthy) == [(1, 0), (0, 1), (2, 0)]
    assert pairs(sick) == [(j, 1 - d) for j, d in pairs(healthy)]
    assert [(a.layer, a.resolution) for a in sick] == [(0, 4), (0, 4), (1, 8)]
    assert found.attributes == healthy + sick
    assert found.made == {"seconds": 1.5, "count": 10, "images": 2, "left_out": 0}
    assert search(*binary_case(), threshold=9.0, targets=["sick"]).attributes == sick


def test_find_leaves_unstable_images_out():
    """An image with large effects everywhere neither votes nor counts."""
    effects, logits = binary_case()
    wild = torch.full_like(effects[:1], 50.0)
    found = search(torch.cat([effects, wild]), torch.cat([logits, predicted(0)]), threshold=9.0)
    assert found.attributes == search(effects, logits, threshold=9.0).attributes
    assert (found.made["images"], found.made["left_out"]) == (3, 1)
    assert len(found.effects) == 3
    everything = search(wild, predicted(0))
    assert everything.attributes == ()


def test_find_with_three_classes():
    """One-vs-all for every class; one-vs-one over the source's images only."""
    effects, logits = normal(9, 3, 2, 3) / 2, predicted(*[0, 1, 2] * 3, classes=3)
    names = ("a", "b", "c")
    found = search(effects, logits, names, layout=None, count=2)
    assert found.threshold == 0.5
    for target, name in enumerate(names):
        assert list(found.towards(name)) == select(effects, logits, target=target, count=2)
    assert {a.layer for a in found.attributes} == {-1}
    pair = search(effects, logits, names, layout=None, source="b")
    assert {a.target for a in pair.attributes} == {0, 2}
    alone = select(effects[1::3], logits[1::3], target=2, source=1)
    assert list(pair.towards("c")) == alone


def test_find_passes_rule_and_count_on():
    """What `select` may be told, `find` may be told."""
    effects, logits = normal(9, 3, 2, 3) / 2, predicted(*[0, 1, 2] * 3, classes=3)
    for options in ({"rule": "single"}, {"count": 1}, {"threshold": 0.1}):
        found = search(effects, logits, ("a", "b", "c"), layout=None, **options)
        assert list(found.towards(0)) == select(effects, logits, target=0, **options)


def test_what_was_only_foretold_is_not_chosen_again():
    """Among the measured coordinates only; what an earlier choice said of itself is gone."""
    effects, logits = normal(9, 6, 2, 3) / 2, predicted(*[0, 1, 2] * 3, classes=3)
    made = {
        "measured": [1, 4],
        "certificate": {"says": "Reported effects are exact"},
        "without": [1],
    }
    found = search(effects, logits, ("a", "b", "c"), layout=None, made=made)
    assert {a.coordinate for a in found.attributes} > {1, 4}
    kept, again = effects.clone(), find_again(found, None, rule="share")
    assert {a.coordinate for a in again.attributes} == {1, 4}
    assert torch.equal(again.effects, kept)
    assert "without" not in again.made
    said = again.made["certificate"]
    assert not said["sure"]
    assert said["says"].startswith("Chosen again among the 2 coordinates that the fast search meas")
    exact = replace(found, made={})
    assert "certificate" not in find_again(exact, None).made


def test_logit_std_is_that_of_the_base_logits():
    """Over the images, of each class; one image has none."""
    effects = torch.zeros(2, 3, 2, 2)
    assert search(effects, torch.tensor([[1.0, 5.0], [3.0, 5.0]])).logit_std == (1.0, 0.0)
    assert search(effects[:1], torch.tensor([[1.0, 5.0]])).logit_std == (0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"targets": ["ill"]}, "no class 'ill'; choose one of healthy, sick"),
        ({"targets": [2]}, "no class 2; choose one of healthy, sick"),
        ({"targets": [-1]}, "no class -1"),
        ({"source": "ill"}, "no class 'ill'"),
        ({"source": 1, "targets": [1]}, "class 1 is both source and target"),
        ({"threshold": -1.0}, "threshold -1.0"),
    ],
)
def test_bad_options_say_so_in_one_line(options, says):
    """Every mistake of the caller is named."""
    with pytest.raises(ValueError, match=says) as error:
        search(*binary_case(), **options)
    assert "\n" not in str(error.value)


def test_effects_that_are_not_finite_are_refused():
    """NaN would end the selection in silence."""
    effects, logits = binary_case()
    effects[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="1 effects are not finite"):
        search(effects, logits)


def test_unknown_class_of_a_search_names_the_classes():
    """The error of `towards`."""
    with pytest.raises(ValueError, match="no class 'ill'; choose one of healthy, sick"):
        search(*binary_case()).towards("ill")


# --- on disk


@pytest.mark.parametrize("source", [None, 1])
def test_saved_and_loaded_is_the_same(tmp_path, source):
    """Tensors bit for bit, everything else equal."""
    effects, logits = normal(7, 3, 2, 3).float() / 2, normal(7, 3, seed=2).float()
    made = {"date": "2024-02-03T04:05:06+00:00", "machine": "x", "seconds": 0.1}
    found = search(effects, logits, ("a", "b", "ü"), source=source, rule="single", made=made)
    found.save(tmp_path)
    again = Search.load(tmp_path)
    for name in (f.name for f in fields(Search)):
        ours, theirs = getattr(found, name), getattr(again, name)
        same = torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
        assert same, name
    assert again.attributes
    assert again.logit_std == found.logit_std


def test_files_hold_what_the_run_directory_promises(tmp_path):
    """Keys of the JSON; nothing but finished files."""
    found = search(*binary_case(), made={"seconds": 2.0})
    found.save(tmp_path)
    about = json.loads((tmp_path / "search.json").read_text())
    assert set(about) == {"made", "classes", "logit_std", "attributes"}
    assert {"images", "left_out", "strength", "threshold", "rule"} < set(about["made"])
    assert {"coordinate", "direction", "target", "effect", "share", "layer", "resolution"} == set(
        about["attributes"][0]
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["search.json", "search.safetensors"]
    assert "strength" not in found.made


def test_a_view_of_a_larger_tensor_is_saved(tmp_path):
    """Permuted and cut tensors are written as they read."""
    effects = normal(2, 2, 3, 5).permute(3, 2, 0, 1)
    found = search(effects, normal(10, 2)[::2])
    found.save(tmp_path)
    assert torch.equal(Search.load(tmp_path).effects, effects)


def test_a_search_of_a_shorter_training_is_refused(tmp_path):
    """Its coordinates and bounds are of other weights; one that does not say is taken."""
    found = search(*binary_case())
    found.save(tmp_path)
    write_json(Run(tmp_path).about, {"images_seen": 200})
    assert "images_seen" not in Search.load(tmp_path).made
    found.save(tmp_path)
    assert Search.load(tmp_path).made["images_seen"] == 200
    write_json(Run(tmp_path).about, {"images_seen": 300})
    with pytest.raises(ValueError, match="from 200 to 300 images after its search; repeat"):
        Search.load(tmp_path)


@pytest.mark.parametrize("wrong", [{}, {"made": {}}, {"made": 3, "classes": [], "attributes": []}])
def test_a_search_that_lacks_a_part_is_named(tmp_path, wrong):
    """No traceback: a run may come from anybody."""
    search(*binary_case()).save(tmp_path)
    write_json(Run(tmp_path).search, wrong)
    with pytest.raises(ValueError, match=r"search.json lacks a part .*repeat `stylex search"):
        Search.load(tmp_path)


def test_loading_nothing_says_what_to_do(tmp_path):
    """No search, or one that was cut short."""
    with pytest.raises(FileNotFoundError, match="holds no search; run `stylex search"):
        Search.load(tmp_path)
    search(*binary_case()).save(tmp_path)
    Run(tmp_path).search.unlink()
    with pytest.raises(FileNotFoundError, match="holds no search"):
        Search.load(tmp_path)


@pytest.mark.parametrize("file", ["search", "search_tensors"])
def test_a_damaged_file_is_named(tmp_path, file):
    """Cut short in the middle."""
    search(*binary_case()).save(tmp_path)
    path = getattr(Run(tmp_path), file)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=f"{path.name} is not readable") as error:
        Search.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_save_cut_short_leaves_no_mixture(tmp_path, monkeypatch):
    """Killed while the tensors are written, the old attributes are gone too."""
    found = search(*binary_case())
    found.save(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("stylex.attfind.save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        replace(found, effects=found.effects * 2).save(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no search"):
        Search.load(tmp_path)
