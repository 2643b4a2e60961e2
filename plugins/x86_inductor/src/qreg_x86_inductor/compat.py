"""Private names of torch and torchao, used in this module only.

Each name is listed with the version that it was verified in.
``tests/test_x86_inductor_compat.py`` fails if one is moved or renamed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qreg.errors import LoweringError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

# torch 2.13.0: inductor/fx_passes/quantization.py replaces fused patterns with these functions and
# calls them with keywords. Patterns that torchao 0.18 fuses first use operators with other names.
KERNELS = {
    "qlinear": "onednn.qlinear_pointwise",
    "qlinear_binary": "onednn.qlinear_pointwise.binary",
    "qconv": "onednn.qconv_pointwise",
    "qconv_binary": "onednn.qconv2d_pointwise.binary",
    "qmaxpool2d": "quantized.max_pool2d",
    "qcat": "aten.cat on uint8",
    "qreshape": "aten.reshape on uint8",
}
# torch 2.13.0, inductor/fx_passes/mkldnn_fusion.py: a float convolution fused with its consumer.
FLOAT_KERNEL = "fn"
FLOAT_OPERATORS = ("mkldnn._convolution_pointwise", "mkldnn._linear_pointwise")
FUSIONS = ("qlinear_post_op_fusion", "qconv_post_op_fusion")  # torch 2.13.0, torchao 0.18.0
ACCUMULATORS = ("x_2", "accum", "other")  # torch 2.13.0: binary kernels add to it in place
ACCUMULATOR = 6  # torch 2.13.0: the position of this argument in the operators


def kernel(node: Node) -> str | None:
    """Return the name of the int8 kernel that a node of Inductor's final graph calls, or None."""
    if isinstance(node.target, functools.partial):
        return KERNELS.get(getattr(node.target, "__name__", ""))
    name = str(node.target)
    known = ("onednn.qlinear_pointwise", "onednn.qconv_pointwise", "onednn.qconv2d_pointwise")
    return name if node.op == "call_function" and name.startswith(known) else None


def accumulator(node: Node) -> Node | None:
    """Return the tensor that a kernel may add its result to in place, or None.

    Raises ``LoweringError`` for a binary kernel whose accumulator is not found.
    """
    if _is_float_kernel(node):
        return node.kwargs.get("other")  # type: ignore[return-value]
    name = kernel(node)
    if name is None or ".binary" not in name:
        return None
    if node.kwargs:
        found = next((node.kwargs[each] for each in ACCUMULATORS if each in node.kwargs), None)
    else:
        found = node.args[ACCUMULATOR]
    if found is None:
        raise LoweringError(
            f"{node.target}: the position of its accumulator is unknown (expected torch 2.13). "
            "Install the version of torch that this plugin requires."
        )
    return found  # type: ignore[return-value]


def _is_float_kernel(node: Node) -> bool:
    is_function = isinstance(node.target, functools.partial)
    return is_function and getattr(node.target, "__name__", "") == FLOAT_KERNEL


def owns_result(node: Node) -> bool:
    """Whether a node is a kernel whose result does not share memory with another tensor."""
    name = kernel(node)
    if name is not None:
        return name != KERNELS["qreshape"]  # which returns a view of its input
    return _is_float_kernel(node) or str(node.target).startswith(FLOAT_OPERATORS)


def replace_accumulator(node: Node, copy: Node) -> None:
    """Replace the accumulator of a kernel with another tensor."""
    if node.kwargs:
        name = next(each for each in ACCUMULATORS if each in node.kwargs)
        node.update_kwarg(name, copy)
    else:
        node.update_arg(ACCUMULATOR, copy)


def inductor_settings(**settings: Any) -> AbstractContextManager[None]:
    """Return a context manager that patches the settings of torch's compiler."""
    # torch 2.13.0: dynamo reads `freezing` too, before it reads the options of torch.compile.
    # Importing the quantizer registers torchao's fusions.
    import torch._inductor.config
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401

    leave_activations()
    context: AbstractContextManager[None] = torch._inductor.config.patch(settings)
    return context


@functools.cache
def leave_activations() -> None:
    """Keep Inductor from fusing a sum into a kernel that has an activation fused already.

    Its fusions match ``linear(x).relu() + y``, and then assert that the linear has no activation.
    A match that they assert on is skipped, for good: the sum is a kernel on its own.
    """
    for entry in fusions():
        entry.extra_check = _unless_activated(entry.extra_check)


def fusions() -> list[Any]:
    """Return the registered fusions into the int8 kernels of linears and convolutions."""
    # torch 2.13.0 has the fusions that torchao 0.18.0 has too, and registers its own at first use.
    from torch._inductor.fx_passes.freezing_patterns import pass_patterns
    from torch._inductor.fx_passes.quantization import _register_quantization_weight_pack_pass

    _register_quantization_weight_pack_pass()
    entries = [e for each in pass_patterns for found in each.patterns.values() for e in found]
    unique = {id(each): each for each in entries}.values()
    return [each for each in unique if _handler(each) in FUSIONS]


def _handler(entry: Any) -> str:
    return getattr(getattr(entry, "handler", None), "__name__", "")


def _unless_activated(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def checked(match: Any) -> bool:
        return match.kwargs.get("postop_name", "none") == "none" and check(match)

    return checked


def frozen(guard: Any) -> AbstractContextManager[None]:
    """Return a context manager that folds weights into int8 kernels and runs ``guard``.

    ``guard`` is called on each final graph.
    """
    return inductor_settings(
        freezing=True,
        post_grad_custom_post_pass=guard,
        # The number of threads is read at run time, not at compile time.
        **{"cpp.dynamic_threads": True},
    )


def compile_package(
    program: ExportedProgram, metadata: Mapping[str, str], guard: Any, folder: Path
) -> bytes:
    """Compile a program to an AOTInductor package; intermediate files are written to ``folder``."""
    # torch 2.13.0: torch._inductor.aoti_compile_and_package writes to torch's cache, which keeps
    # the results. If it fails, it leaves files in the working directory.
    import torch
    from torch._inductor import aot_compile
    from torch._inductor.package.package import package_aoti

    assert program.example_inputs is not None
    module: GraphModule = program.module(check_guards=False)
    options = {
        "aot_inductor.package": True,
        "aot_inductor.output_path": str(folder / "compiled"),
        "aot_inductor.metadata": dict(metadata),
        "force_disable_caches": True,  # passes do not run on a graph from the cache
    }
    with torch.no_grad(), frozen(guard):
        files: Any = aot_compile(module, *program.example_inputs, options=options)
    path = folder / "program.pt2"
    package_aoti(str(path), files)
    return path.read_bytes()


def load_package(path: Path) -> tuple[Callable[[list[Tensor]], list[Tensor]], dict[str, str]]:
    """Load a package; return the function that runs it on flat tensors, and its metadata."""
    # torch 2.13.0: `loader` of an AOTICompiledModel accepts flat tensors. The model itself accepts
    # the arguments of the exported module.
    from torch._inductor import aoti_load_package

    loaded = aoti_load_package(str(path))
    run: Callable[[list[Tensor]], list[Tensor]] = loaded.loader.run
    return run, loaded.get_metadata()


def annotation_class() -> Any:
    """Return the annotation class that torchao's quantizer writes to nodes and expects on them."""
    # torchao 0.18.0
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        _X86InductorQuantizationAnnotation,
    )

    return _X86InductorQuantizationAnnotation


def stand_in(has_output: bool) -> Any:
    """Return an annotation without specs that torchao's quantizer can read."""
    # torchao 0.18.0: the quantizer asserts that annotations are instances of its class.
    return annotation_class()(_annotated=True, _is_output_of_quantized_pattern=has_output)


def sources() -> dict[str, Any]:
    """Return the source functions of torchao's patterns, by operator name."""
    import operator

    from torch import nn

    return {
        "aten.linear.default": nn.Linear,
        "aten.conv1d.default": nn.Conv1d,
        "aten.conv2d.default": nn.Conv2d,
        "aten.add.Tensor": operator.add,
        "aten.relu.default": nn.ReLU,
        "aten.relu6.default": nn.ReLU6,
        "aten.hardtanh.default": nn.Hardtanh,
        "aten.hardswish.default": nn.Hardswish,
        "aten.silu.default": nn.SiLU,
        "aten.gelu.default": nn.GELU,
    }


SOURCE = "source_fn_stack"  # torch 2.13.0: the key that source partitions, and thus torchao, read
