"""Reports without a model: a convolutional one that shows everything, and long ones."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from qreg.analysis.audit import Split
from qreg.analysis.ranges import Range
from qreg.plugins.types.program import Conversion
from qreg.report.report import Report
from qreg.report.values import Operator, Sizes
from qreg.verification.latency import Timing
from qreg.verification.metrics import OutputComparison
from qreg.verification.verify import Verification

CONV, RELU, ADD = "aten.conv2d.default", "aten.relu.default", "aten.add.Tensor"
SIGMOID, VIEW, LINEAR = "aten.sigmoid.default", "aten.view.default", "aten.linear.default"


def int8(name: str, operator: str, inputs: tuple[str, ...], module: str, **more: Any) -> Operator:
    values: dict[str, Any] = {
        "status": "annotated",
        "reason": "the pattern conv_relu is there",
        "annotator": "conv_relu",
        "distribution": "qreg-xnnpack",
        "config": "static",
        "shape": (1, 64, 56, None),
        "dtype": "float32",
        "source": "/models/net.py:12: return self.act(self.conv(x))",
        "macs": 1_234_567,
        "place": "int8",
        "lowered_as": "convolution",
        "types": "qint8, qcint8, qcint32 -> qint8",
        "delegate": 0,
        "sqnr": 31.4,
        "largest_difference": 0.0123,
        **more,
    }
    return Operator(name=name, operator=operator, inputs=inputs, module=module, **values)


def float_(name: str, operator: str, inputs: tuple[str, ...], module: str, **more: Any) -> Operator:
    values: dict[str, Any] = {
        "status": "float",
        "reason": "no annotator of xnnpack matches aten.sigmoid.default",
        "annotator": None,
        "distribution": None,
        "config": None,
        "macs": 0,
        "place": "float",
        "lowered_as": "sigmoid",
        "types": "fp32 -> fp32",
        **more,
    }
    return int8(name, operator, inputs, module, **values)


def everything() -> Report:
    """One node in each state, a defect, a split, and every table."""
    operators = (
        int8("conv2d", CONV, ("x",), "features.0.conv", pattern=("conv2d", "relu"), sqnr=38.2),
        int8("relu", RELU, ("conv2d",), "features.0.act", pattern=("conv2d", "relu"), place="gone"),
        float_("sigmoid", SIGMOID, ("relu",), "features.0.gate", sqnr=27.1),
        int8("conv2d_1", CONV, ("sigmoid",), "features.1.conv", place="float", sqnr=-2.5),
        int8("add", ADD, ("conv2d_1", "relu"), "features.1", status="shared", sqnr=22.8),
        float_("view", VIEW, ("add",), "", place="outside", sqnr=float("inf")),
        int8("linear", LINEAR, ("view",), "head", sqnr=24.0),
    )
    compared = OutputComparison(28.4, 0.031, 0.004, 0.99931, 0.975)
    return Report(
        backend="xnnpack",
        model="TinyNet",
        operators=operators,
        sizes=Sizes(1_400_000, 361_000),
        delegates=2,
        outside=("aten.view_copy.default",),
        defects=("conv2d_1",),
        splits=(Split(("sigmoid",), ("relu",), ("conv2d_1",)),),
        conversions=(Conversion("dequantize", None, ("relu",), ("view",)),),
        ranges=(Range("relu", "features.0.act", "at the eps floor", 0.0, 0.01, 2**-12, 64, 3),),
        verification=Verification("executorch", 4, (compared,), (compared,)),
        timing=Timing(2.41, 1.02, 50),
        seconds={"export": 1.25, "calibrate": 0.5},
    )


def sensitive() -> Report:
    """Two patterns with noise, one of which has twice as much, and one without."""
    alone = {"conv2d": 30.0, "relu": 30.0, "linear": 27.0, "add": float("inf")}
    report = everything()
    operators = [evolve(each, isolated_sqnr=alone.get(each.name)) for each in report.operators]
    return evolve(report, operators=tuple(operators))


def decided() -> Report:
    """Without a program."""
    operators = (
        int8("conv2d", CONV, ("x",), "conv", place=None, sqnr=None, lowered_as=None, types=None),
        float_("sigmoid", SIGMOID, ("conv2d",), "gate", place=None, sqnr=None, lowered_as=None),
    )
    return Report("xnnpack", "TinyNet", operators, Sizes(1_400_000, None))


def hostile(text: str) -> Report:
    """Every string of it comes from a model that means no good."""
    operators = (
        int8(
            text, text, (f"x{text}",), text, status=text, reason=text, annotator=text, config=text
        ),
        float_(
            "next", text, (text,), f"a.{text}", reason=text, source=text, types=text, place=None
        ),
    )
    return Report(text, text, operators, Sizes(1, 1), 1, outside=(text,), defects=(text,))


def long(count: int) -> Report:
    """Residual blocks without end, and a mask that all of them read."""
    operators = [int8("conv2d", CONV, ("x",), "stem")]
    while len(operators) < count:
        number, last = len(operators), operators[-1].name
        module = f"layers.{number // 100}.{number // 10 % 10}"
        if number % 10 == 0:
            skip = (operators[-8].name,) if number > 10 else ()
            operators.append(
                int8(f"add_{number}", ADD, (last, *skip), module, sqnr=20 + number % 17)
            )
        elif number % 10 == 5:
            mask = ("mask",) if number % 100 == 5 else ()
            made = float_(f"sigmoid_{number}", SIGMOID, (last, *mask), f"{module}.gate", sqnr=30.0)
            operators.append(made)
        else:
            operators.append(int8(f"conv2d_{number}", CONV, (last,), f"{module}.conv", sqnr=35.0))
    return Report(
        "xnnpack", "LongNet", tuple(operators), Sizes(40_000_000, 10_400_000), delegates=1
    )
