"""Shapes and the letters of their axes, defined once.

n images, c channels, h height, w width · l latent, s style, k class, j coordinate.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "n c h w"]  # in [-1, 1]
Latents = Float[Tensor, "n l"]  # z or w
Styles = Float[Tensor, "n s"]
Logits = Float[Tensor, "n k"]
Probabilities = Float[Tensor, "n k"]
Bounds = Float[Tensor, "2 s"]  # row 0 low, row 1 high: the row is the direction
Effects = Float[Tensor, "n j 2 k"]  # in logits; j runs over the searched coordinates

Classify = Callable[[Images], Logits]
"""A classifier, as the search asks it."""

Score = Callable[[Styles], Logits]
"""All that AttFind and the counterfactuals know of a generator and a classifier."""
