"""StylEx: explain an image classifier by what it looks at, in pictures.

Names are loaded on first use, so that `import stylex` and `stylex --help` need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stylex.attfind import Search
    from stylex.classifier import Classifier
    from stylex.classifying import train_classifier
    from stylex.data import load_images
    from stylex.evaluation import evaluate
    from stylex.explaining import Explanation, explain, search
    from stylex.keeping import load_classifier
    from stylex.model import StylEx
    from stylex.report import write_report
    from stylex.stylespace import Attribute, Layout
    from stylex.training import train

_HOMES = {
    "Attribute": "stylespace",
    "Classifier": "classifier",
    "Explanation": "explaining",
    "Layout": "stylespace",
    "Search": "attfind",
    "StylEx": "model",
    "evaluate": "evaluation",
    "explain": "explaining",
    "load_classifier": "keeping",
    "load_images": "data",
    "search": "explaining",
    "train": "training",
    "train_classifier": "classifying",
    "write_report": "report",
}
__all__ = [
    "Attribute",
    "Classifier",
    "Explanation",
    "Layout",
    "Search",
    "StylEx",
    "evaluate",
    "explain",
    "load_classifier",
    "load_images",
    "search",
    "train",
    "train_classifier",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stylex' has no attribute '{name}'")
    return getattr(import_module(f"stylex.{_HOMES[name]}"), name)
