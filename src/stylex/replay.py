"""The same work again and again on a GPU, as one CUDA graph.

A training step is thousands of small kernels: on a GPU it takes longer to launch them one by one
than to run them. A graph launches all at once. What is recorded must not look at its numbers from
the host, and works on the same memory each time: inputs are copied in, outputs copied out.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor

WARM = 3  # calls of each kind before it is recorded: libraries choose their algorithms in them

Work = Callable[..., dict[str, Tensor]]


class Recording(NamedTuple):
    """One kind of call, ready to be launched."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: dict[str, Tensor]


class Replay:
    """A function that is called as it is at first, and from a recording later.

    Args:
        work: a kind and tensors to named numbers; of one kind the tensors have one shape each and
            the same operations follow, whatever the tensors hold.
        generator: of all its random numbers; whoever calls seeds it before each call.
        on: whether to record at all; off, each call is plain.
    """

    def __init__(self, work: Work, generator: torch.Generator, *, on: bool):
        self.work, self.generator, self.on = work, generator, on
        self.forget()

    def forget(self) -> None:
        """Drop what was recorded: the memory it works on has been replaced."""
        self.calls: Counter[Hashable] = Counter()
        self.recordings: dict[Hashable, Recording] = {}
        self.pool = torch.cuda.graph_pool_handle() if self.on else None

    def __call__(self, kind: Hashable, *inputs: Tensor) -> dict[str, Tensor]:
        """Do the work once."""
        self.calls[kind] += 1
        if not self.on or self.calls[kind] <= WARM:
            return self.work(kind, *inputs)
        if kind not in self.recordings and not self._record(kind, inputs):
            return self.work(kind, *inputs)
        graph, places, outputs = self.recordings[kind]
        for place, given in zip(places, inputs, strict=True):
            place.copy_(given)
        graph.replay()
        values = torch.stack([*outputs.values()])  # the next replay writes over the outputs
        return dict(zip(outputs, values.unbind(), strict=True))

    def _record(self, kind: Hashable, inputs: tuple[Tensor, ...]) -> bool:
        """Record without computing anything; what cannot be recorded is called as it is."""
        places, graph = tuple(x.clone() for x in inputs), torch.cuda.CUDAGraph()
        stream, seed = torch.cuda.current_stream(), self.generator.initial_seed()
        graph.register_generator_state(self.generator)
        try:
            with torch.cuda.graph(graph, pool=self.pool):
                outputs = {name: x.float() for name, x in self.work(kind, *places).items()}
        except RuntimeError as error:  # a classifier of the user's that asks the host, for one
            self.forget()
            self.on = False
            torch.cuda.set_stream(stream)  # torch stays on its own where a recording breaks off
            fresh = torch.Generator(self.generator.device)  # the old state still waits for a graph
            self.generator.graphsafe_set_state(fresh.manual_seed(seed))
            print(f"steps are launched one by one: {str(error).splitlines()[0]}")
            return False
        self.recordings[kind] = Recording(graph, places, outputs)
        return True
