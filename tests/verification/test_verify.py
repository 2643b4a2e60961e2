"""Pins the comparison with a reference, and what makes a program unusable."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qreg.errors import VerificationError
from qreg.plugins.types.program import Lowered
from qreg.verification.metrics import compare
from qreg.verification.runner import repeats_for, run_program
from qreg.verification.verify import Verification, verify

EMPTY = Lowered(b"", 1)
SAMPLES = [(torch.tensor([1.0, 2.0]),), (torch.tensor([3.0, 4.0]),)]

numbers = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=8)


def double(x: Tensor) -> Tensor:
    return 2 * x


def runs(function: Callable[..., Any]) -> Callable[[bytes], Any]:
    """A loader whose program is a function."""
    return lambda program: lambda inputs: function(*inputs)


def verified(function: Callable[..., Any]) -> Verification:
    return verify(
        runs(function), EMPTY, SAMPLES, runtime="torch", float_model=double, converted=double
    )


def test_a_comparison_is_that_of_its_definitions() -> None:
    found = compare(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.5]))
    assert found.sqnr == pytest.approx(10 * math.log10(25 / 0.25))  # 20 dB
    assert found.max_difference == 0.5
    assert found.cosine == pytest.approx((9 + 14) / (5 * math.hypot(3, 3.5)))


def test_equal_tensors_have_no_noise() -> None:
    found = compare(torch.tensor([1.0, -1.0]), torch.tensor([1.0, -1.0]))
    assert (found.sqnr, found.max_difference, found.cosine) == (math.inf, 0.0, 1.0)


def test_two_zeros_are_equal() -> None:
    found = compare(torch.zeros(3), torch.zeros(3))
    assert (found.sqnr, found.max_difference, found.cosine) == (math.inf, 0.0, 1.0)


def test_noise_on_a_zero_reference_is_all_noise() -> None:
    found = compare(torch.zeros(2), torch.tensor([0.0, 0.25]))
    assert (found.sqnr, found.max_difference, found.cosine) == (-math.inf, 0.25, 0.0)


def test_empty_tensors_are_equal() -> None:
    assert compare(torch.zeros(0), torch.zeros(0)).sqnr == math.inf


def test_a_small_difference_of_large_integers_is_seen() -> None:
    found = compare(torch.tensor([2**40]), torch.tensor([2**40 + 1]))
    assert found.max_difference == 1.0


@given(numbers, st.sampled_from([2.0, 0.5, -4.0]))
def test_the_ratio_does_not_depend_on_the_scale(values: list[float], factor: float) -> None:
    reference = torch.tensor(values, dtype=torch.float64)
    output = reference + 1.0
    scaled = compare(reference * factor, output * factor)
    assert scaled.sqnr == pytest.approx(compare(reference, output).sqnr)


def test_outputs_are_compared_over_all_samples() -> None:
    found = verified(lambda x: (2 * x + 0.5,))
    signal, noise = 4 + 16 + 36 + 64, 4 * 0.25
    assert found.samples == 2
    assert found.to_float == found.to_converted
    assert found.to_float[0].sqnr == pytest.approx(10 * math.log10(signal / noise))


def test_each_output_has_a_comparison_of_its_own() -> None:
    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        return x, -x

    found = verify(
        runs(lambda x: (x, x)),
        EMPTY,
        SAMPLES,
        runtime="torch",
        floor=-math.inf,
        float_model=both,
        converted=both,
    )
    assert [each.cosine for each in found.to_float] == pytest.approx([1.0, -1.0])


def test_the_float_and_the_converted_model_are_told_apart() -> None:
    found = verify(
        runs(lambda x: (2 * x,)),
        EMPTY,
        SAMPLES,
        runtime="torch",
        float_model=lambda x: 3 * x,
        converted=double,
    )
    assert found.to_float[0].max_difference == 4.0
    assert found.to_converted[0].max_difference == 0.0


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda x: (2 * x / torch.zeros(2) * 0,), "output 0 of the program is NaN in places"),
        (lambda x: (x[:1],), r"shapes \[\(1,\)\], expected \[\(2,\)\]"),
        (lambda x: (x, x), r"shapes \[\(2,\), \(2,\)\], expected \[\(2,\)\]"),
        (lambda x: (), r"shapes \[\], expected \[\(2,\)\]"),
        (lambda x: 1 / 0, "does not run: division by zero"),
    ],
    ids=["NaN", "another shape", "one output too many", "no output", "raises"],
)
def test_a_program_with_unusable_outputs_is_refused(
    function: Callable[..., Any], problem: str
) -> None:
    with pytest.raises(VerificationError, match=problem):
        verified(function)


def test_nan_is_refused_even_where_the_reference_has_it() -> None:
    def not_a_number(x: Tensor) -> Tensor:
        return x * math.nan

    model: dict[str, Any] = {"float_model": not_a_number, "converted": not_a_number}
    with pytest.raises(VerificationError, match="output 0 of the program is NaN in places"):
        verify(runs(lambda x: (x * math.nan,)), EMPTY, SAMPLES, runtime="torch", **model)


def test_the_same_infinity_on_both_sides_is_no_difference() -> None:
    mask = torch.tensor([0.0, -math.inf])
    assert compare(mask, mask.clone()).sqnr == math.inf
    found = compare(mask + torch.tensor([1.0, 0.0]), torch.tensor([1.5, -math.inf]))
    assert found.max_difference == 0.5
    assert found.sqnr == pytest.approx(10 * math.log10(1 / 0.25))  # of what is finite


def test_an_infinity_on_one_side_is_all_noise() -> None:
    found = compare(torch.tensor([1.0, 2.0]), torch.tensor([1.0, math.inf]))
    assert found.sqnr == -math.inf
    with pytest.raises(VerificationError, match="-inf dB"):
        verified(lambda x: (2 * x / torch.tensor([1.0, 0.0]),))


def test_numbers_and_none_among_the_outputs_are_passed_over() -> None:
    model: dict[str, Any] = {"float_model": double, "converted": lambda x: (None, 2 * x, 3)}
    found = verify(runs(lambda x: (2 * x, None)), EMPTY, SAMPLES, runtime="torch", **model)
    assert len(found.to_converted) == 1


def test_outputs_of_another_type_are_refused() -> None:
    with pytest.raises(VerificationError, match=r"types \['float64'\], expected \['float32'\]"):
        verified(lambda x: (2 * x.double(),))


def test_rows_that_agree_on_their_class_are_counted() -> None:
    reference = torch.tensor([[1.0, 2.0], [4.0, 3.0]])
    assert compare(reference, torch.tensor([[0.0, 0.5], [0.0, 0.5]])).agreement == 0.5
    assert compare(reference, reference).agreement == 1.0


def test_classes_are_counted_over_all_samples_and_for_rows_of_classes_only() -> None:
    samples = [(torch.tensor([[1.0, 2.0]]),), (torch.tensor([[2.0, 1.0]]),)]
    model: dict[str, Any] = {"float_model": lambda x: x, "converted": lambda x: x}
    options: dict[str, Any] = {"runtime": "torch", "floor": -math.inf, **model}
    found = verify(runs(lambda x: (torch.tensor([[0.0, 1.0]]),)), EMPTY, samples, **options)
    assert found.to_float[0].agreement == 0.5
    assert compare(torch.ones(4), torch.ones(4)).agreement is None
    assert compare(torch.ones(4, 1), torch.ones(4, 1)).agreement is None
    assert compare(torch.ones(4, 2).bool(), torch.ones(4, 2).bool()).agreement is None


def test_the_mean_difference_is_that_of_the_elements() -> None:
    assert compare(torch.zeros(4), torch.tensor([0.0, 0.0, 1.0, -2.0])).mean_difference == 0.75


def test_a_program_that_does_not_load_is_refused_with_the_cause() -> None:
    def load(program: bytes) -> Any:
        raise RuntimeError(f"bad magic {program!r}")

    with pytest.raises(VerificationError, match="bad magic b'xyz'") as caught:
        run_program(load, Lowered(b"xyz", 1, ["aten.odd.default"]), SAMPLES)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_program_is_loaded_once_and_gets_contiguous_tensors() -> None:
    loaded: list[bytes] = []
    contiguous: list[bool] = []

    def load(program: bytes) -> Any:
        loaded.append(program)
        return run

    def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        contiguous.extend(tensor.is_contiguous() for tensor in inputs)
        return tuple(inputs)

    run_program(load, Lowered(b"p", 1), [(torch.zeros(2, 3).T,), (torch.zeros(3, 2),)])
    assert loaded == [b"p"]
    assert contiguous == [True, True]


def test_a_program_far_from_its_model_is_refused_with_the_distance() -> None:
    with pytest.raises(VerificationError, match=r"output 0 of the program is 6\.0 dB"):
        verified(lambda x: (3 * x,))  # noise of half the signal: 20 log10(2) = 6.0


def test_a_difference_that_is_only_rounding_is_no_matter_how_small_the_signal() -> None:
    assert verified(lambda x: (2 * x + 1e-9,)).to_converted[0].sqnr > 100
    zero: dict[str, Any] = {"float_model": torch.zeros_like, "converted": torch.zeros_like}
    found = verify(runs(lambda x: (x * 1e-9,)), EMPTY, SAMPLES, runtime="torch", **zero)
    assert found.to_converted[0].sqnr == -math.inf


def test_inputs_that_the_program_changes_are_not_taken_for_outputs() -> None:
    lowered = Lowered(b"", 1, changed_inputs=1)
    ((output,),) = run_program(runs(lambda x: (x, 2 * x)), lowered, SAMPLES[:1])
    assert output.tolist() == [2.0, 4.0]


def test_what_was_left_to_the_runtime_is_named_when_the_program_does_not_run() -> None:
    def load(program: bytes) -> Any:
        raise RuntimeError("0x12")

    with pytest.raises(VerificationError, match=r"Suspects.*: aten\.odd\.default"):
        run_program(load, Lowered(b"", 1, ["aten.odd.default"]), SAMPLES)


def test_a_program_that_adds_to_its_own_constants_is_found_out() -> None:
    """It is right at its first call: only the next ones show it."""
    kept = torch.zeros(2)

    def growing(x: Tensor) -> Tensor:
        result = 2 * x + kept
        kept.add_(1)
        return result

    with pytest.raises(VerificationError, match="output 0 of the program changes: at call 3"):
        verify(
            runs(growing), EMPTY, SAMPLES[:1] * 2, runtime="", float_model=double, converted=double
        )


def test_a_program_that_overwrites_its_input_is_found_out() -> None:
    with pytest.raises(VerificationError, match="overwrites its input 0"):
        verified(lambda x: x.mul_(2))


def test_a_program_that_says_which_inputs_it_changes_may_do_so() -> None:
    lowered = Lowered(b"", 1, changed_inputs=1)
    outputs = run_program(runs(lambda x: (x.mul_(2), x + 1)), lowered, SAMPLES, repeats=2)
    assert [each[0].tolist() for each in outputs] == [[3.0, 5.0], [7.0, 9.0]]


def test_rounding_from_call_to_call_is_no_change() -> None:
    calls = iter(range(100))
    found = verified(lambda x: 2 * x * (1 + 1e-6 * next(calls)))
    assert found.samples == 2


def test_a_program_is_run_again_on_its_first_sample() -> None:
    calls = []
    verified(lambda x: calls.append(x.tolist()) or 2 * x)
    assert calls == [[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [1.0, 2.0]]


def test_the_program_of_a_model_that_keeps_a_state_is_not_run_again(
    capture: Callable[..., Any],
) -> None:
    class Counter(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            self.count.add_(1)
            return x + self.count

    assert repeats_for(capture(Counter(), torch.zeros(2))) == 0
    assert repeats_for(capture(torch.nn.ReLU(), torch.zeros(2))) > 0


def noisy(x: Tensor, seed: int) -> Tensor:
    """Twice ``x`` with noise of 10 dB."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return 2 * x + 10 ** (-10 / 20) * noise * (2 * x).square().mean().sqrt()


def judged(program: Callable[..., Any], converted: Callable[..., Any]) -> Verification:
    samples = [(torch.randn(4096, generator=torch.Generator().manual_seed(0)),)]
    return verify(
        runs(program), EMPTY, samples, runtime="", float_model=double, converted=converted
    )


def test_a_program_as_close_to_float_as_its_noisy_converted_model_is_taken() -> None:
    found = judged(lambda x: noisy(x, 1), lambda x: noisy(x, 2))
    assert found.to_converted[0].sqnr < 10
    assert found.to_float[0].sqnr == pytest.approx(10, abs=0.5)


def test_a_program_whose_converted_model_is_all_noise_is_judged_against_float() -> None:
    """With as much noise as signal, two right programs may have noise of different strength."""
    found = judged(lambda x: 2 * x + 3 * x.flip(0), lambda x: 2 * x + 2 * x.roll(1))
    assert found.to_converted[0].sqnr < 10
    assert found.to_float[0].sqnr < -3
    assert not found.good


def test_a_program_far_beyond_the_noise_of_its_converted_model_is_wrong() -> None:
    with pytest.raises(VerificationError, match="dB from the converted model"):
        judged(lambda x: 20 * x.flip(0), lambda x: x.roll(1))


def test_noise_of_its_own_is_no_excuse_for_a_program() -> None:
    with pytest.raises(VerificationError, match="dB from the converted model"):
        judged(lambda x: noisy(noisy(x, 1) / 2, 3), lambda x: noisy(x, 2) + 0.1 * x)
    with pytest.raises(VerificationError, match="dB from the converted model"):
        judged(lambda x: x.flip(0), lambda x: noisy(x, 2))
    with pytest.raises(VerificationError, match="dB from the converted model"):
        judged(lambda x: noisy(x, 1), double)
