"""Names of operators for tables of patterns, by kind, in torch's notation."""

from __future__ import annotations

CONV = ("aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default")
CONVOLUTIONS = (*CONV, "aten.conv1d.padding", "aten.conv2d.padding")
TRANSPOSED = (
    "aten.conv_transpose1d.default",
    "aten.conv_transpose2d.input",
    "aten.conv_transpose3d.input",
)
LINEAR = ("aten.linear.default",)
ADDMM = ("aten.addmm.default",)
MATMUL = ("aten.matmul.default", "aten.bmm.default", "aten.mm.default")
BATCH_NORM = ("aten.batch_norm.default",)

ADD, SUB, MUL = ("aten.add.Tensor",), ("aten.sub.Tensor",), ("aten.mul.Tensor",)
DIV = ("aten.div.Tensor", "aten.div.Scalar")
CAT = ("aten.cat.default",)
ATTENTION = ("aten.scaled_dot_product_attention.default",)

RELU = ("aten.relu.default",)
RELU6 = ("aten.hardtanh.default", "aten.relu6.default")  # operators that clip at two bounds
CLAMPS = (*RELU6, "aten.clamp.default")

# Functions of one value each, which 8-bit kernels can look up.
TABULATED = tuple(
    f"aten.{name}.default" for name in ("hardswish", "sigmoid", "tanh", "gelu", "leaky_relu")
)

MAX_POOL2D = ("aten.max_pool2d.default",)
MAX_POOLS = ("aten.max_pool1d.default", *MAX_POOL2D)
MEANS, GLOBAL_POOLS = ("aten.mean.dim",), ("aten.adaptive_avg_pool2d.default",)
RESHAPES = ("aten.view.default", "aten.reshape.default", "aten.flatten.using_ints")
PERMUTES = ("aten.permute.default", "aten.transpose.int", "aten.t.default")
SLICE, UNSQUEEZE = ("aten.slice.Tensor",), ("aten.unsqueeze.default",)
VIEWS = (*RESHAPES, *UNSQUEEZE, "aten.squeeze.dim", "aten.squeeze.dims")
COPIES, EXPAND = ("aten.clone.default", "aten.contiguous.default"), ("aten.expand.default",)
UPSAMPLES, SHUFFLES = ("aten.upsample_nearest2d.vec",), ("aten.pixel_shuffle.default",)
MOVES = (*VIEWS, *PERMUTES, *SLICE, *COPIES, *UPSAMPLES, *SHUFFLES)

PADS = ("aten.pad.default", "aten.constant_pad_nd.default")
DROPOUTS = ("aten.dropout.default", "aten.feature_dropout.default")
IDENTITIES = ("aten.to.dtype", "aten.to.dtype_layout", "aten.alias.default")

# Of torchao. The qparams are numbers; they are tensors where they are found at run time.
QUANTIZE = "quantized_decomposed.quantize_per_tensor.default"
DEQUANTIZE = "quantized_decomposed.dequantize_per_tensor.default"
DYNAMIC_QUANTIZE = "quantized_decomposed.quantize_per_tensor.tensor"
DYNAMIC_DEQUANTIZE = "quantized_decomposed.dequantize_per_tensor.tensor"
DEQUANTIZE_CHANNELS = "quantized_decomposed.dequantize_per_channel.default"
