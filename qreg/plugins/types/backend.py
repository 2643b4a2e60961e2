"""Backends: the names of configs, requirements, options, and how programs are run.

This module does not import torch, so a plugin can be loaded and listed in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from attrs import Attribute, field, frozen, validators
from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as PipRequirement

from qreg.plugins import processor
from qreg.plugins.types.fields import is_callable, non_empty, strings

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import GraphModule
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, Quantizer

    from qreg.plugins.types.interface import Interface


Mode: TypeAlias = Literal["static", "dynamic", "qat", "weight"]
Runner: TypeAlias = "Callable[[Sequence[Tensor]], tuple[Tensor, ...]]"
Transform: TypeAlias = "Callable[[GraphModule, frozenset[Mode]], GraphModule]"

STATIC: frozenset[Mode] = frozenset({"static", "qat"})
# Those in which activations are quantized.
ALL_MODES: frozenset[Mode] = frozenset({"static", "dynamic", "qat"})
WEIGHT: frozenset[Mode] = frozenset({"weight"})


def _is_for_pip(instance: object, attribute: object, value: str) -> None:
    try:
        PipRequirement(value)
    except InvalidRequirement as error:
        raise ValueError(f"{value!r} is not an argument of `pip install`: {error}") from error


def _unique_names(instance: object, attribute: Attribute[Any], values: tuple[Option, ...]) -> None:
    names = [each.name for each in values]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{attribute.name}: {name!r} is there {names.count(name)} times")


def _tuple_of(member: Any, *more: Any) -> Any:
    """Return a field that is a tuple, of members that pass a validator."""
    members = validators.deep_iterable(member)
    return field(default=(), converter=tuple, validator=validators.and_(members, *more))


@frozen
class Requirement:
    """An importable module that a backend needs, and the pip argument that provides it.

    The version range in the argument is the range that the backend supports.
    """

    module: str = field(validator=non_empty)
    pip: str = field(validator=_is_for_pip)


@frozen
class Tool:
    """A command that a backend needs, and how to install it.

    ``variable`` is the environment variable that may name another command to use instead.
    """

    command: str = field(validator=non_empty)
    install: str = field(validator=non_empty)
    variable: str | None = None


@frozen
class Option:
    """An option of a backend that its user may set, by name.

    A value has the type of ``default``, is one of ``choices``, if there are any, and is not below
    ``least``. ``at`` is ``"lower"`` if ``qreg_lower`` is called with the option, and ``"load"`` if
    ``Backend.load`` is.
    """

    name: str = field(validator=non_empty)
    default: str | int | float | bool
    summary: str
    choices: tuple[str | int | float, ...] = ()
    least: float | None = None
    at: Literal["lower", "load"] = field(
        default="lower", validator=validators.in_(("lower", "load"))
    )


@frozen
class Files:
    """How to write a program that consists of more than one file.

    ``beside`` are the suffixes of the files next to the file with the suffix of the backend.
    ``split`` returns the content of each file by suffix; ``join`` returns the program made of them.
    """

    beside: tuple[str, ...]
    split: Callable[[bytes], Mapping[str, bytes]]
    join: Callable[[Mapping[str, bytes]], bytes]


@frozen
class Backend:
    """A target that quantized programs are lowered to.

    ``default_config`` names the config that applies on this processor. ``reduced_config`` names the
    default on x86 processors without VNNI, for a backend whose integer sums saturate there (see
    ``qreg.plugins.processor``); None means that they do not saturate.
    ``load`` turns a lowered program into a function from the flat input tensors to the flat output
    tensors; ``None`` means that the backend only compiles and nothing is run on this machine.
    ``load_methods`` is for programs with several methods, and returns the function of each by name;
    the methods share the buffers that they write to. ``qreg_lower`` of such a backend is called
    with a dict of programs too. None means that a program has one method.
    ``interfaces`` reads the methods of a program by name, and raises ``InputError`` for bytes that
    are not one; None if the format does not describe them.
    ``requires`` and ``tools`` are checked ahead of any work. ``options`` are the options that a
    user may set; an option called ``threads`` is the number of threads of the runtime.
    ``refuses`` returns the reason why a config cannot be lowered, or None if it can be; it is
    called when a config is chosen. ``fold_quantize`` is whether convert stores weights quantized,
    or float with the operators that quantize them. ``dynamic_shapes`` is whether programs support
    inputs of more than one size. ``stateless`` is why programs do not keep what a model writes to
    its buffers, in a clause for messages ("an ONNX program keeps nothing from one run to the
    next"); None for programs that keep it. ``files`` is for programs of several files.
    ``simulated`` is whether the runtime is a model of the hardware, so that its times have no
    meaning. ``dtypes`` are the tensor types that its observers and kernels quantize from.
    ``transforms`` are called with the graph, and the modes of the configs that it is annotated
    with, and return the graph. ``finish`` is called with the converted graph, and returns it with
    what the backend computes in another way than ``convert_pt2e`` writes, such as dynamic qparams
    for each row; None if there is nothing. ``profile`` returns the time of each operator of an
    exported program in seconds, by its origin; ``None`` if times of operators are not available.
    ``reproducible`` is whether a program depends on nothing but the exported program, the options,
    the processor, and the code and the versions of the plugin and of ``requires``, so that it may
    be kept in the cache. ``quantized_io`` is whether programs may take and give quantized tensors
    instead of float ones.
    ``quantizer`` makes a third-party torchao Quantizer for a config; it annotates the operators
    that the annotators of this backend leave.
    """

    name: str = field(validator=non_empty)
    summary: str
    _default_config: str = field(validator=non_empty)
    runtime: str
    suffix: str
    requires: tuple[Requirement, ...] = _tuple_of(validators.instance_of(Requirement))
    tools: tuple[Tool, ...] = _tuple_of(validators.instance_of(Tool))
    options: tuple[Option, ...] = _tuple_of(validators.instance_of(Option), _unique_names)
    refuses: Callable[[QuantizationConfig], str | None] | None = None
    transforms: tuple[Transform, ...] = _tuple_of(is_callable)
    fold_quantize: bool = True
    finish: Callable[[GraphModule], GraphModule] | None = None
    dynamic_shapes: bool = True
    stateless: str | None = None
    simulated: bool = False
    reproducible: bool = False
    quantized_io: bool = False
    load: Callable[..., Runner] | None = None
    load_methods: Callable[..., Mapping[str, Runner]] | None = None
    interfaces: Callable[[bytes], Mapping[str, Interface]] | None = None
    files: Files | None = None
    dtypes: tuple[str, ...] = field(default=("torch.float32",), converter=strings)
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
    """A quantization config that a backend supports, with a stable name.

    Configs are identified by name because they cannot be compared: two equal
    ``QuantizationConfig`` objects compare unequal if their observer factories were made by
    different calls. ``factory`` may import torch. ``group_scale_bits`` is how many bits the scale
    of a group of a weight takes in a program.
    """

    name: str = field(validator=non_empty)
    summary: str
    mode: Mode = field(validator=validators.in_(ALL_MODES | WEIGHT))
    factory: Callable[[], QuantizationConfig] = field(validator=is_callable)
    group_scale_bits: int = 32
