"""Names that torch and torchao keep private, in the one place that knows them.

Each with the version it was seen in; ``tests/test_x86_inductor_compat.py`` notices when one moves.
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

# torch 2.13.0: inductor/fx_passes/quantization.py replaces what it fuses by these functions, and
# calls them with keywords; their operators have other names where torchao 0.18 fused them before.
KERNELS = {
    "qlinear": "onednn.qlinear_pointwise",
    "qlinear_binary": "onednn.qlinear_pointwise.binary",
    "qconv": "onednn.qconv_pointwise",
    "qconv_binary": "onednn.qconv2d_pointwise.binary",
    "qmaxpool2d": "quantized.max_pool2d",
    "qcat": "aten.cat on uint8",
    "qreshape": "aten.reshape on uint8",
}
# torch 2.13.0, inductor/fx_passes/mkldnn_fusion.py: a convolution in float with what follows it.
FLOAT_KERNEL = "fn"
FLOAT_OPERATORS = ("mkldnn._convolution_pointwise", "mkldnn._linear_pointwise")
ACCUMULATORS = ("x_2", "accum", "other")  # torch 2.13.0: what the binary ones add, and overwrite
ACCUMULATOR = 6  # torch 2.13.0: its position in the operators themselves


def kernel(node: Node) -> str | None:
    """The int8 kernel that a node of Inductor's final graph is; None for everything else."""
    if isinstance(node.target, functools.partial):
        return KERNELS.get(getattr(node.target, "__name__", ""))
    name = str(node.target)
    known = ("onednn.qlinear_pointwise", "onednn.qconv_pointwise", "onednn.qconv2d_pointwise")
    return name if node.op == "call_function" and name.startswith(known) else None


def accumulator(node: Node) -> Node | None:
    """The tensor that a kernel may add its result to in place; None if it has none."""
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
    """Whether a node is a kernel whose result lies in memory that nothing else has."""
    name = kernel(node)
    if name is not None:
        return name != KERNELS["qreshape"]  # which gives a view of what it reads
    return _is_float_kernel(node) or str(node.target).startswith(FLOAT_OPERATORS)


def replace_accumulator(node: Node, copy: Node) -> None:
    """Lets a kernel add to another tensor."""
    if node.kwargs:
        name = next(each for each in ACCUMULATORS if each in node.kwargs)
        node.update_kwarg(name, copy)
    else:
        node.update_arg(ACCUMULATOR, copy)


def inductor_settings(**settings: Any) -> AbstractContextManager[None]:
    """Settings of torch's compiler, for as long as the context is open."""
    # torch 2.13.0: `freezing` is asked for by dynamo too, before the options of torch.compile are
    # looked at. Importing the quantizer registers torchao's fusions.
    import torch._inductor.config
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401

    context: AbstractContextManager[None] = torch._inductor.config.patch(settings)
    return context


def frozen(guard: Any) -> AbstractContextManager[None]:
    """Settings that fold weights into int8 kernels, with a pass over each final graph."""
    return inductor_settings(
        freezing=True,
        post_grad_custom_post_pass=guard,
        # Threads are counted when a program runs, and not when it is compiled.
        **{"cpp.dynamic_threads": True},
    )


def compile_package(
    program: ExportedProgram, metadata: Mapping[str, str], guard: Any, folder: Path
) -> bytes:
    """An AOTInductor package of a program; what is compiled on the way stays in ``folder``."""
    # torch 2.13.0. torch._inductor.aoti_compile_and_package writes to torch's cache, where the
    # results stay, and leaves files in the working directory when it fails.
    import torch
    from torch._inductor import aot_compile
    from torch._inductor.package.package import package_aoti

    assert program.example_inputs is not None
    module: GraphModule = program.module(check_guards=False)
    options = {
        "aot_inductor.package": True,
        "aot_inductor.output_path": str(folder / "compiled"),
        "aot_inductor.metadata": dict(metadata),
        "force_disable_caches": True,  # with a graph from the cache, no pass would see it
    }
    with torch.no_grad(), frozen(guard):
        files: Any = aot_compile(module, *program.example_inputs, options=options)
    path = folder / "program.pt2"
    package_aoti(str(path), files)
    return path.read_bytes()


def load_package(path: Path) -> tuple[Callable[[list[Tensor]], list[Tensor]], dict[str, str]]:
    """Loads a package: what runs it on flat tensors, and its metadata."""
    # torch 2.13.0: `loader` of an AOTICompiledModel takes flat tensors; the model itself takes the
    # arguments of the exported module.
    from torch._inductor import aoti_load_package

    loaded = aoti_load_package(str(path))
    run: Callable[[list[Tensor]], list[Tensor]] = loaded.loader.run
    return run, loaded.get_metadata()


def annotation_class() -> Any:
    """What torchao's quantizer writes to nodes, and asks of the nodes that it reads."""
    # torchao 0.18.0
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        _X86InductorQuantizationAnnotation,
    )

    return _X86InductorQuantizationAnnotation


def stand_in(has_output: bool) -> Any:
    """An annotation without specs, in the form that torchao's quantizer can read."""
    # torchao 0.18.0: it asserts that annotations are of its own class.
    return annotation_class()(_annotated=True, _is_output_of_quantized_pattern=has_output)


def sources() -> dict[str, Any]:
    """What torchao's quantizer calls the operators of its patterns, by their names."""
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


SOURCE = "source_fn_stack"  # torch 2.13.0: what its source partitions, and thus torchao, go by
