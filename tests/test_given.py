"""A model around a classifier that is given beside its run."""

from pathlib import Path
from shutil import rmtree

import pytest
import torch
from small import weighing

from stylex import given
from stylex.keeping import load_classifier, remember
from stylex.model import StylEx
from stylex.runs import VERSION, Run, write_json


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A TorchScript file: two logits of three colours, which says neither classes nor pixels."""
    file = tmp_path / "judge of mine.ts"
    model = weighing([[1.0, 0.0]] * 4, [0.0, 0.5]).model
    torch.jit.trace(model, torch.zeros(1, 3, 32, 32)).save(str(file))
    return file


def test_what_a_script_does_not_say_the_run_says(script: Path, tmp_path: Path) -> None:
    """Classes, mean and deviation are those of the training, which kept no copy of it."""
    settings = {"classes": ("no", "yes"), "mean": (0.1, 0.2, 0.3), "std": 2.0, "size": 16}
    files = Run(tmp_path / "run")
    trained = StylEx(load_classifier(script, **settings), resolution=32, width=0.0625)
    about = {"version": VERSION, "resolution": 32, "channels": 3, "settings": {"width": 0.0625}}
    write_json(files.about, about | {"classifier": remember(trained.classifier, files.path)})
    trained.save(files.path)
    rmtree(files.classifier)
    for strange in (False, True):
        model = given.load(files.path, str(script), strange=strange)
        assert model.classifier.settings == trained.classifier.settings
        assert model.classifier.hash == trained.classifier.hash


def test_a_judge_that_is_a_script_has_the_classes_of_the_run(script: Path) -> None:
    """And what brings its own is left as it is."""
    assert given.named(str(script), classes=("a", "b")).classes == ("a", "b")
    with pytest.raises(FileNotFoundError, match="no classifier at"):
        given.named("nowhere", classes=("a", "b"))
