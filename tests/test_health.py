"""Each rule speaks on the measures it is made for and is silent on good ones."""

import inspect
import re

import pytest

from stylex import health
from stylex.training import train

GOOD = {
    "l1": 0.20,
    "l1_mean_image": 0.30,
    "l1_other_w": 0.25,
    "agreement": 0.95,
    "agreement_mean_w": 0.70,
    "agreement_mean_p": 0.90,
    "chance": 0.50,
    "d_right": 0.75,
    "diversity": 0.28,
    "diversity_photos": 0.30,
}
BAD = {
    "stuck on the mean image": {"l1": 0.29, "l1_other_w": 0.40},
    "class from p alone": {"agreement_mean_w": 0.94, "agreement_mean_p": 0.55},
    "encoder ignored": {"l1_other_w": 0.21},
    "discriminator won": {"d_right": 0.99},
    "diversity lost": {"diversity": 0.05},
}


def names(*history: dict[str, float]) -> list[str]:
    """What is found wrong with the newest snapshot."""
    return [finding.name for finding in health.check(history)]


def test_good_measures_are_silent():
    """Also early, before there is a discriminator."""
    early = {k: v for k, v in GOOD.items() if k != "d_right" and not k.startswith("diversity")}
    assert names(GOOD) == []
    assert names(early) == []
    assert names(early, GOOD) == []


@pytest.mark.parametrize("name", BAD)
def test_each_rule_speaks_alone(name):
    """A bad measure is named, with its number, and nothing else is."""
    findings = health.check([GOOD, GOOD | BAD[name]])
    assert [finding.name for finding in findings] == [name]
    assert re.search(r"\d", findings[0].says)


@pytest.mark.parametrize("name", BAD)
def test_only_the_newest_snapshot_counts(name):
    """What has been mended is not said again."""
    assert names(GOOD | BAD[name], GOOD) == []


def test_the_prototypes_collapse_is_recognised():
    """The numbers of method.md trap 11: mean w agrees as often as own w, and p hidden is chance."""
    seen = GOOD | {"agreement": 0.95, "agreement_mean_w": 0.95, "agreement_mean_p": 0.5}
    assert names(seen) == ["class from p alone"]


@pytest.mark.parametrize(
    "fine",
    [
        {"agreement_mean_w": 0.94},  # p alone would do, but w alone does as well
        {"agreement_mean_p": 0.55},  # w is needed beside p
        {
            "agreement": 0.55,
            "agreement_mean_w": 0.55,
            "agreement_mean_p": 0.5,
        },  # nothing learnt yet
    ],
)
def test_class_from_condition_needs_both_signs(fine):
    """One floor alone is no collapse."""
    assert "class from p alone" not in names(GOOD | fine)


def test_agreement_falling_looks_back():
    """Against the best so far, not only the last."""
    best, worse = GOOD | {"agreement": 0.97}, GOOD | {"agreement": 0.80}
    assert names(best, GOOD, worse) == ["agreement falling"]
    assert names(worse, GOOD) == []
    assert names(best, GOOD | {"agreement": 0.90}) == []


def test_advice_names_options_that_exist():
    """Every flag in an advice is a keyword of `train`."""
    findings = [health.check([GOOD | change])[0] for change in BAD.values()]
    findings += health.check([GOOD, GOOD | {"agreement": 0.80}])
    assert len(findings) == len(health.RULES) + 1
    keywords = inspect.signature(train).parameters
    for finding in findings:
        flags = re.findall(r"--([a-z0-9-]+)", finding.advice)
        assert flags, finding.name
        assert not [flag for flag in flags if flag.replace("-", "_") not in keywords]
