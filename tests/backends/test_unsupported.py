"""Pins the error for operators without a kernel: the operator, its place in the code, a way out."""

from __future__ import annotations

import cases_unsupported
import pytest
import torch
from cases_unsupported import IMAGE, REPLACED, Convolved, erfinv, fmin, stft, written_diagonal
from torch import Tensor, nn
from torch.export import ExportedProgram

from qreg.backends.unsupported import COMPLEX, INSTEAD, naming_unsupported, unsupported
from qreg.errors import InputError, UnsupportedOperatorError


def program(model: nn.Module) -> ExportedProgram:
    with torch.no_grad():
        return torch.export.export(model.eval(), (IMAGE,))


def message(model: nn.Module, *operators: str) -> str:
    made = program(model)
    return str(unsupported("It has no kernel", [lambda: made, made.run_decompositions], operators))


class Least(Convolved):
    def __init__(self) -> None:
        super().__init__(fmin)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.fmin(y, y * 0.5 + 0.1)


def test_the_error_names_the_operator_its_line_and_a_replacement() -> None:
    found = message(Least(), "aten.fmin.default")
    line = Least.forward.__code__.co_firstlineno + 2
    place = f"{__file__}:{line} in forward: return torch.fmin(y, y * 0.5 + 0.1). Replace"
    assert f"It has no kernel for aten.fmin.default (fmin), called at {place}" in found
    assert "Replace fmin with torch.minimum(a, b)" in found
    assert "Otherwise compute it outside of the model, or lower for x86_inductor" in found


def test_an_operator_without_a_replacement_has_the_other_ways_out() -> None:
    found = message(Convolved(erfinv), "aten.erfinv.default")
    assert "return self.function(self.conv(x)). Compute it outside of the model" in found


def test_the_place_is_that_of_the_module_and_not_of_torchs_code() -> None:
    class Pooled(Convolved):
        def __init__(self) -> None:
            super().__init__(lambda y: y)
            self.pool = nn.AdaptiveMaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.conv(x))

    found = message(Pooled(), "aten.adaptive_max_pool2d.default")
    assert "(adaptive_max_pool2d) in module 'pool', called at " in found
    assert f"{__file__}:" in found
    assert "in forward: return self.pool(self.conv(x))" in found


def test_an_operator_that_others_are_decomposed_to_is_found_with_their_line() -> None:
    found = message(Convolved(written_diagonal), "aten.diagonal_scatter.default")
    assert f"(diagonal_scatter), called at {cases_unsupported.__file__}:" in found
    assert "Replace diagonal_scatter with torch.where(torch.eye(" in found


def test_complex_numbers_are_named_with_what_returns_them() -> None:
    found = message(Convolved(stft), COMPLEX)
    assert "no kernel for complex numbers, as returned by aten.stft.default (stft)" in found
    assert "Replace stft with conv1d" in found


class Looping(Convolved):
    def forward(self, x: Tensor) -> Tensor:
        from torch._higher_order_ops.scan import scan

        def body(carry: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
            carry = torch.fmin(carry, value)
            return carry, carry.clone()

        y = self.conv(x)
        return scan(body, y[0].clone(), y)[1]


def test_an_operator_in_the_body_of_a_loop_is_found_where_the_loop_is() -> None:
    made = program(Looping(fmin))
    for body in made.graph_module.children():
        for node in body.graph.nodes:
            node.meta.pop("stack_trace", None)  # as in a program that was exported again
    found = str(unsupported("It has no kernel", [lambda: made], ["aten.fmin.default"]))
    assert "aten.fmin.default (fmin), in the body of scan (scan), called at " in found
    assert "in forward: return scan(body, y[0].clone(), y)[1]" in found


def test_the_names_are_there_if_no_node_is_found() -> None:
    assert "no kernel for a.b.c. Compute" in message(Convolved(fmin), "a.b.c")


def test_an_error_about_something_else_is_left_alone() -> None:
    made = program(Convolved(fmin))
    for error in (ValueError("too big"), InputError("no")):
        with (
            pytest.raises(type(error)) as raised,
            naming_unsupported("It has no kernel", [made], lambda cause: []),
        ):
            raise error
        assert raised.value is error


def test_the_error_of_the_converter_is_the_cause() -> None:
    made, cause = program(Convolved(fmin)), ValueError("no fmin")
    with (
        pytest.raises(UnsupportedOperatorError) as raised,
        naming_unsupported("It has no kernel", [made], lambda _: ["aten.fmin.default"]),
    ):
        raise cause
    assert raised.value.__cause__ is cause
    assert raised.value.operators == ("aten.fmin.default",)


@pytest.mark.parametrize("name", REPLACED)
def test_what_is_advised_computes_the_same(name: str) -> None:
    original, instead = REPLACED[name]
    y = torch.randn(2, 4, 8, 8)
    assert torch.allclose(original(y), instead(y), atol=1e-4)
    assert name.split()[0] in INSTEAD
