"""One attribute under scrutiny, in closed form: style j is the gray of quarter j."""

import pytest
import torch
from small import ROWS, Plain, quarters, searched, seeing

from stylex import attfind, scrutiny
from stylex.attfind import Search
from stylex.stylespace import Layout
from stylex.subjects import Subjects


def evidence(classifier=None, judges=(), rows=ROWS, strength=1.0, **options) -> dict:
    """All that is said about the first attribute towards yes."""
    model = Plain(classifier or seeing(0), **options)
    subjects = Subjects(model, quarters(80), judges=judges)
    found = searched(model, rows, strength=strength)
    results = scrutiny.scrutinise(subjects, found)
    return next(r for r in results if (r["target"], r["rank"]) == (1, 1))


def test_effect_is_the_mean_change_on_test_images():
    """The first quarter goes to 1; the logit of yes is 0.9 times its gray."""
    result = evidence()
    gray = quarters(80)[:, 0, 0, 0]
    expected = 0.9 * (1 - gray[gray < 0])
    assert (result["coordinate"], result["direction"]) == (0, 1)
    assert result["images"] == len(expected)
    assert result["effect"] == pytest.approx(expected.mean().item(), abs=1e-4)
    assert result["low"] < result["effect"] < result["high"]
    half = evidence(strength=0.5)  # of a search that went half way
    assert half["effect"] == pytest.approx(expected.mean().item() / 2, abs=1e-4)
    assert result["effects"] == pytest.approx([-result["effect"], result["effect"]], abs=1e-4)
    assert result["flipped"] == 1.0


def test_a_broad_change_survives_and_is_seen():
    """Noise and blur leave the gray of a quarter alone, and a judge of that quarter sees it."""
    result = evidence(judges=[seeing(0, gray=3.0)])
    assert result["noise"] == pytest.approx(1.0, abs=0.01)
    assert result["blur"] == pytest.approx(1.0, abs=0.05)
    assert result["panel"] == pytest.approx(1.0, abs=1e-3)
    assert not result["artefact"]


def test_a_judge_of_another_quarter_sees_nothing():
    """The edit never touches what it looks at; two judges of whom one sees it: half."""
    assert evidence(judges=[seeing(1)])["panel"] == pytest.approx(0.0, abs=1e-4)
    both = evidence(judges=[seeing(0, gray=3.0), seeing(1)])
    assert both["panel"] == pytest.approx(0.5, abs=1e-3)


def test_a_smudge_is_an_artefact():
    """The classifier reads a faint checkerboard: a blur takes it away and no judge sees it."""
    reads = seeing(0, gray=0.2, board=90.0)
    result = evidence(reads, judges=[seeing(0)], smudge=0.02)
    assert result["coordinate"] == 3
    assert result["effect"] > 0.5
    assert result["blur"] < 0.1
    assert result["panel"] == pytest.approx(0.0, abs=1e-3)
    assert result["artefact"]
    assert not result["trusted"]
    shut = {gate["name"] for gate in result["gates"] if gate["passed"] is False}
    assert {"survives blur", "seen by the panel", "drawn again"} <= shut
    assert result["comes_back"] == pytest.approx(0.0, abs=1e-4)


def test_shares_from_p_split_the_range():
    """The first coordinate: w ranges over its grays, p adds its own range."""
    subjects = Subjects(Plain(seeing(0), by_p=0.5), quarters(80))
    w, p = subjects.w[:, 0], subjects.p[:, 1]
    by_w, by_p = w.max() - w.min(), p.max() - p.min()
    shares = scrutiny.shares_from_p(subjects)
    assert shares[0] == pytest.approx((by_p / (by_p + by_w)).item(), abs=1e-5)
    torch.testing.assert_close(shares[1:], torch.zeros(3))
    alone = scrutiny.shares_from_p(Subjects(Plain(seeing(0), by_p=0.5, by_w=0.0), quarters(80)))
    assert alone[0] == pytest.approx(1.0)


def test_the_encoder_finds_its_own_edit_again():
    """Re-encoded, the coordinate stands where it was put, and no other one moved."""
    result = evidence(judges=[seeing(0)])
    gray = quarters(80)[:, 0, 0, 0]
    assert result["own_return"] == pytest.approx((1 - gray[gray < 0]).mean().item() / 2, abs=1e-4)
    assert result["other_return"] is None  # one attribute only was found
    assert result["comes_back"] == pytest.approx(1.0, abs=1e-4)


def test_overlap_is_the_cosine_of_difference_maps():
    """Two edits of one place overlap wholly, those of two places not at all."""
    left, right = torch.zeros(2, 4, 4)
    left[:, :2], right[:, 2:] = 1, 2
    overlaps = scrutiny._overlaps([left, 3 * left, right], [0, 1, 2])
    assert overlaps == pytest.approx([1.0, 1.0, 0.0])
    assert scrutiny._overlaps([left], [0]) == [None]


def test_the_other_way_of_a_coordinate_is_no_other_attribute():
    """Alone it has nothing to overlap; beside one that acts on half of its place 0.71."""
    whole, half = torch.ones(2, 2), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert scrutiny._overlaps([whole, whole], [3, 3]) == [None, None]
    assert scrutiny._overlaps([whole, whole, half], [3, 3, 5]) == pytest.approx([0.5**0.5] * 3)


def by_hand(weights: list[float], images: int = 40, noise: float = 0.0) -> Search:
    """AttFind on a linear score, with effects of single images that scatter."""
    draw = torch.Generator().manual_seed(0)
    styles = torch.rand(images, len(weights), generator=draw) * 2 - 1
    styles[:, :] += noise * torch.randn(styles.shape, generator=draw)
    ends = torch.stack([styles.amin(0), styles.amax(0)])

    def score(rows):
        lead = rows @ torch.tensor(weights)
        return torch.stack([-lead, lead], 1)

    measured = attfind.one_by_one(score, styles, ends, coordinates=len(weights))
    layout = Layout((len(weights),), (32,))
    return attfind.find(*measured, layout, classes=("no", "yes"), bounds=ends, styles=styles)


def returned(weights: list[float]) -> dict:
    """What comes back of that search; the notebook's rule asks no model."""
    return scrutiny.returns(by_hand(weights), Plain(seeing(0)))


def test_clear_rankings_return_and_close_ones_do_not():
    """Weights far apart give the same list in every draw; equal ones change places."""
    clear, close = returned([0.9, 0.3]), returned([0.3] * 12)
    assert set(clear["attributes"].values()) == {1.0}
    assert clear["rank_biased_overlap"] == pytest.approx(1.0)
    assert close["rank_biased_overlap"] < 0.9
    assert close["low"] <= close["rank_biased_overlap"] <= close["high"]


def test_nothing_found_is_nothing_to_return():
    """A classifier that nothing moves."""
    nothing = returned([0.0, 0.0])
    assert nothing["rank_biased_overlap"] is None
    assert nothing["why_rank_biased_overlap"]


def test_counterparts_are_paired_by_what_they_change():
    """Another training of the same classifier changes the same quarter; a mirrored one does not."""
    photos = quarters(40)
    model = Plain(seeing(0))
    other = Plain(seeing(1))  # its attribute changes another place
    subjects, others = Subjects(model, photos), Subjects(other, photos)
    found, elsewhere = searched(model, ROWS), searched(other, ROWS)
    assert scrutiny.counterparts(subjects, found, subjects, found)["share"] == 1.0
    table = scrutiny.counterparts(subjects, found, others, elsewhere)
    assert table["share"] == 0.0
    assert table["alike"]["yes"] == pytest.approx([0.0], abs=1e-5)


def test_no_partner_is_taken_twice():
    """The stronger pair goes first, the other row takes what is left, a third has none."""
    cosines = torch.tensor([[0.9, 0.8], [0.95, 0.1], [0.7, 0.6]])
    assert scrutiny._paired(cosines) == pytest.approx([0.8, 0.95, 0.0])
