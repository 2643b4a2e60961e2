"""Annotations that the host did not write, and the search for the annotator that wrote them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define, field
from torch.fx import Graph, Node
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation

from qreg.errors import QregError
from qreg.graph.compat import annotate_node, annotation_of, restore_annotation
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.annotator import Annotation, Annotator
from qreg.quantizer.answers import failure

# Repeat a pass over a graph, and yield after each step the annotator that was called in it.
Steps = Callable[[], Iterator[Supplied[Annotator]]]


@define
class Annotations:
    """The annotations of a graph: the initial ones (``taken``), and those that the host wrote."""

    graph: Graph
    taken: dict[Node, QuantizationAnnotation]
    written: dict[Node, QuantizationAnnotation] = field(init=False)

    @classmethod
    def of(cls, graph: Graph) -> Annotations:
        return cls(graph, {node: found for node in graph.nodes if (found := annotation_of(node))})

    def __attrs_post_init__(self) -> None:
        self.written = dict(self.taken)

    def write(self, node: Node, annotation: Annotation | None) -> None:
        """Annotate a node; None marks it as taken, without specs."""
        self.written[node] = annotate_node(node, annotation)

    def undo(self) -> None:
        """Restore the initial annotation of each node, if any."""
        for node in self.graph.nodes:
            restore_annotation(node, self.taken.get(node))
        self.written = dict(self.taken)

    def is_stray(self, node: Node) -> bool:
        return annotation_of(node) is not self.written.get(node)


def check_strays(annotations: Annotations, steps: Steps) -> None:
    """Raise ``AnnotatorError`` if an annotator wrote an annotation instead of returning it."""
    stray = next(filter(annotations.is_stray, annotations.graph.nodes), None)
    if stray is not None:
        problem = f"it wrote an annotation to {stray.name} itself, instead of returning one"
        raise failure(_writer(annotations, stray, steps), stray, problem)


def _writer(annotations: Annotations, stray: Node, steps: Steps) -> Supplied[Annotator]:
    """Return the annotator that writes to a node, found by repeating the pass step by step."""
    for supplied in steps():
        if annotations.is_stray(stray):
            return supplied
    raise QregError(
        f"node {stray.name!r}: an annotator annotated it, and none does so again (expected it "
        "to return annotations). Load one plugin at a time with QREG_LOAD_PLUGINS to find it."
    )
