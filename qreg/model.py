"""The values that plugins return and the host passes on.

Nothing here imports torch: a plugin can be loaded and listed in milliseconds. Operators are
therefore written as the strings that torch prints for them, ``"aten.linear.default"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from attrs import Attribute, Factory, field, frozen, validators
from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as PipRequirement

from qreg import processor

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, Quantizer
    from torchao.quantization.pt2e.quantizer.quantizer import QuantizationSpecBase

Mode: TypeAlias = Literal["static", "dynamic", "qat"]
Status: TypeAlias = Literal["annotated", "shared", "float"]
Runner: TypeAlias = "Callable[[Sequence[Tensor]], tuple[Tensor, ...]]"
Transform: TypeAlias = "Callable[[GraphModule, frozenset[Mode]], GraphModule]"
Matcher: TypeAlias = "Callable[[Node], Match | None]"
Rule: TypeAlias = "Callable[[Match, QuantizationConfig], str | None]"
Annotate: TypeAlias = "Callable[[Match, QuantizationConfig], Sequence[Annotation] | Refusal]"

STATIC: frozenset[Mode] = frozenset({"static", "qat"})
ALL_MODES: frozenset[Mode] = frozenset({"static", "dynamic", "qat"})

_name = validators.and_(validators.instance_of(str), validators.min_len(1))
_callable: Any = validators.is_callable()


def _is_for_pip(instance: object, attribute: object, value: str) -> None:
    try:
        PipRequirement(value)
    except InvalidRequirement as error:
        raise ValueError(f"{value!r} is no argument of `pip install`: {error}") from error


def _strings(values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):  # which is an iterable of strings too, of one letter each
        raise TypeError(f"{values!r} is one string (expected a tuple of them). Write ({values!r},)")
    found = tuple(values)
    for value in found:
        if not isinstance(value, str):
            raise TypeError(f"{value!r} is not a string. Write {str(value)!r}")
    return found


def _rules(values: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple(values)


def _nodes(values: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(values)


def _modes(values: Iterable[Mode]) -> frozenset[Mode]:
    found = frozenset(_strings(values))
    if not found or found - ALL_MODES:
        wrong = ", ".join(map(repr, sorted(found - ALL_MODES))) or "none"
        raise ValueError(f"modes: {wrong} given (expected some of {', '.join(sorted(ALL_MODES))})")
    return frozenset(each for each in ALL_MODES if each in found)


def _unique_names(instance: object, attribute: Attribute[Any], values: tuple[Option, ...]) -> None:
    names = [each.name for each in values]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{attribute.name}: {name!r} is there {names.count(name)} times")


def _tuple_of(member: Any, *more: Any) -> Any:
    """A field that is a tuple, of members that pass a validator."""
    members = validators.deep_iterable(member)
    return field(default=(), converter=tuple, validator=validators.and_(members, *more))


@frozen
class Requirement:
    """An importable module that a backend needs, and the pip argument that provides it.

    The versions in the argument are those that the backend works with.
    """

    module: str = field(validator=_name)
    pip: str = field(validator=_is_for_pip)


@frozen
class Tool:
    """A command that a backend needs, and how to install it.

    ``variable`` is the environment variable that may name another command in its place.
    """

    command: str = field(validator=_name)
    install: str = field(validator=_name)
    variable: str | None = None


@frozen
class Option:
    """Something that a backend leaves to its user, by name.

    A value has the type of ``default``, is one of ``choices``, if there are any, and not below
    ``least``. ``at`` says which of ``qreg_lower`` and ``Backend.load`` is given it.
    """

    name: str = field(validator=_name)
    default: str | int | float | bool
    summary: str
    choices: tuple[str | int | float, ...] = ()
    least: float | None = None
    at: Literal["lower", "load"] = field(
        default="lower", validator=validators.in_(("lower", "load"))
    )


@frozen
class Files:
    """How a program is written that takes more than one file.

    ``beside`` are the suffixes of the files that stand beside that with the suffix of the backend.
    ``split`` gives the content of each file by its suffix, ``join`` the program that they are.
    """

    beside: tuple[str, ...]
    split: Callable[[bytes], Mapping[str, bytes]]
    join: Callable[[Mapping[str, bytes]], bytes]


@frozen
class Backend:
    """A target that quantized programs are lowered to.

    ``default_config`` names the config that applies on this processor. ``reduced_config`` names the
    default on x86 processors without VNNI, for a backend whose integer sums saturate there (see
    ``qreg.processor``); None says that they do not saturate.
    ``load`` turns a lowered program into a function from the flat input tensors to the flat output
    tensors; ``None`` says that the backend only compiles and nothing is run on this machine.
    ``requires`` and ``tools`` are looked for before any work. ``options`` are what a user may set;
    one that is called ``threads`` is the number of threads that the runtime computes on.
    ``refuses`` gives the reason why a config cannot be lowered, None if it can be; it is asked when
    a config is chosen. ``fold_quantize`` says whether convert stores weights quantized, or float
    with the operators that quantize them. ``dynamic_shapes`` says whether programs may take inputs
    of more than one size. ``stateless`` is why programs do not keep what a model writes to its
    buffers, in a clause for messages ("an ONNX program keeps nothing from one run to the next");
    None for programs that keep it. ``files`` is for programs of several files. ``simulated`` says
    that the runtime is a model of the hardware, whose times mean nothing.
    ``dtypes`` are the tensor types that its observers and kernels quantize from. ``transforms``
    take the graph, and the modes of the configs that it is annotated with, and return the graph.
    ``profile`` tells how many seconds each operator of an exported program takes, by its origin;
    ``None`` if that cannot be known. ``quantizer`` makes a torchao Quantizer of somebody else's for
    a config; it annotates what the annotators of this backend leave.
    """

    name: str = field(validator=_name)
    summary: str
    _default_config: str = field(validator=_name)
    runtime: str
    suffix: str
    requires: tuple[Requirement, ...] = _tuple_of(validators.instance_of(Requirement))
    tools: tuple[Tool, ...] = _tuple_of(validators.instance_of(Tool))
    options: tuple[Option, ...] = _tuple_of(validators.instance_of(Option), _unique_names)
    refuses: Callable[[QuantizationConfig], str | None] | None = None
    transforms: tuple[Transform, ...] = _tuple_of(_callable)
    fold_quantize: bool = True
    dynamic_shapes: bool = True
    stateless: str | None = None
    simulated: bool = False
    load: Callable[..., Runner] | None = None
    files: Files | None = None
    dtypes: tuple[str, ...] = field(default=("torch.float32",), converter=_strings)
    profile: Callable[[ExportedProgram], Mapping[str, float]] | None = None
    quantizer: Callable[[QuantizationConfig], Quantizer] | None = None
    reduced_config: str | None = None

    @property
    def default_config(self) -> str:
        return (self.saturates and self.reduced_config) or self._default_config

    @property
    def saturates(self) -> bool:
        """Whether sums of 8-bit products saturate in this backend on this processor."""
        return self.reduced_config is not None and not processor.has_vnni()


@frozen
class SupportedConfig:
    """A quantization config that a backend understands, under a name that stays.

    Names are the keys because configs cannot be: two equal ``QuantizationConfig``s compare unequal
    when their observer factories were made by different calls. ``factory`` may import torch.
    """

    name: str = field(validator=_name)
    summary: str
    mode: Mode = field(validator=validators.in_(("static", "dynamic", "qat")))
    factory: Callable[[], QuantizationConfig] = field(validator=_callable)


@frozen
class Match:
    """Where a pattern was found.

    ``nodes`` are its operators in execution order: the first decides which config applies, the
    last gives the output. ``inputs`` are the activations that enter it; ``weight`` and
    ``bias`` are its constants. All of them are nodes of the annotated graph.
    """

    nodes: tuple[Node, ...] = field(converter=_nodes, validator=validators.min_len(1))
    inputs: tuple[Node, ...] = field(converter=_nodes)
    weight: Node | None = None
    bias: Node | None = None

    @property
    def anchor(self) -> Node:
        return self.nodes[0]

    @property
    def output(self) -> Node:
        return self.nodes[-1]


@frozen
class Refusal:
    """Why a match is left in float, in words that a user of the model understands."""

    reason: str


@frozen
class Annotation:
    """The quantization specs of one node: of the edges into it, and of its output."""

    node: Node
    inputs: Mapping[Node, QuantizationSpecBase] = Factory(dict)
    output: QuantizationSpecBase | None = None


@frozen
class Annotator:
    """One operator pattern, and what it needs to be quantized.

    ``targets`` are the operators that ``match`` is asked about, in their functional form: an
    in-place ``aten.relu_.default`` is looked up as ``aten.relu.default``. ``match`` tells whether
    the pattern is there; each of ``rules`` may refuse the match with a reason; ``annotate`` says
    what is quantized, and if it is None, inputs, weight, bias and output get what the config has
    for them. None of the three may change the graph: the host writes the annotations down.
    ``before`` and ``after`` name annotators to be asked later or earlier, ``replaces`` those of
    other plugins that this one stands in for.
    """

    name: str = field(validator=_name)
    targets: tuple[str, ...] = field(converter=_strings, validator=validators.min_len(1))
    match: Matcher = field(validator=_callable)
    modes: frozenset[Mode] = field(default=STATIC, converter=_modes)
    rules: tuple[Rule, ...] = field(
        default=(), converter=_rules, validator=validators.deep_iterable(_callable)
    )
    annotate: Annotate | None = field(default=None, validator=validators.optional(_callable))
    before: tuple[str, ...] = field(default=(), converter=_strings)
    after: tuple[str, ...] = field(default=(), converter=_strings)
    replaces: tuple[str, ...] = field(default=(), converter=_strings)
    summary: str = ""


@frozen
class Supplied:
    """A value together with the plugin and the distribution that supplied it."""

    value: Any
    plugin: str
    distribution: str
    version: str = ""


@frozen
class Decision:
    """What happened to one operator of the graph, and why.

    ``status`` is ``"annotated"`` (it has specs of its own), ``"shared"`` (it runs on the
    parameters of its input) or ``"float"``. ``pattern`` are the names of the nodes that were
    annotated together.
    """

    node: str
    operator: str
    module: str
    status: Status
    reason: str
    annotator: str | None = None
    distribution: str | None = None
    config: str | None = None
    pattern: tuple[str, ...] = ()

    @property
    def quantized(self) -> bool:
        return self.status != "float"


@frozen
class LoweredOperator:
    """One operator of a lowered program, as the program itself says.

    ``origin`` is the node of the annotated graph that it comes from (``Decision.node``), None for
    what the lowering added. ``operator`` and the types of its tensors, ``reads`` and ``gives``, are
    in the words of the backend. ``int8`` says whether it computes on quantized values. ``delegate``
    is the number of the subgraph that it is in, None outside of all.
    """

    origin: str | None
    operator: str
    int8: bool
    delegate: int | None = None
    reads: tuple[str, ...] = field(default=(), converter=_strings)
    gives: tuple[str, ...] = field(default=(), converter=_strings)


@frozen
class Conversion:
    """A change between float and int8, or of parameters, that a lowered program carries out.

    ``kind`` is ``"quantize"``, ``"dequantize"`` or ``"requantize"``. ``behind`` and ``before`` are
    the origins of the operators that give and read the value, where these are in the same subgraph.
    """

    kind: Literal["quantize", "dequantize", "requantize"]
    delegate: int | None
    behind: tuple[str, ...] = field(default=(), converter=_strings)
    before: tuple[str, ...] = field(default=(), converter=_strings)

    @property
    def is_leftover(self) -> bool:
        """Whether it belongs to no border of an int8 part in a delegate."""
        return self.delegate is None or self.kind == "requantize"


@frozen
class Lowered:
    """A program in the backend's own format.

    ``delegates`` is the number of subgraphs that the backend took; ``outside`` are the operators
    that were left to the runtime's portable kernels, one entry for each occurrence.
    ``changed_inputs`` counts the inputs that the program changes in place; it gives them before
    its outputs. ``operators`` and ``conversions`` are read from the program; ``operators`` is None
    where the format cannot be read back.
    """

    program: bytes = field(repr=lambda program: f"<{len(program)} bytes>")
    delegates: int
    outside: tuple[str, ...] = field(default=(), converter=_strings)
    changed_inputs: int = 0
    operators: Sequence[LoweredOperator] | None = field(default=None, repr=False)
    conversions: Sequence[Conversion] = field(default=(), repr=False)
