"""Pins that errors and warnings travel between processes with their text and their fields."""

from __future__ import annotations

import pickle

import pytest

from qreg import errors

CLAIMS = [("a", "qreg-a", "1.0"), ("b", "qreg-b", "2.0")]
EXAMPLES: list[Exception] = [
    errors.QregError("text"),
    errors.UnknownNameError("config", "int9", ["int8"], "Choose one."),
    errors.UnknownArgumentError("quantize", "modell", ["model", "options"]),
    errors.UnknownModuleError("name", "fc3", ["fc1", "fc2"]),
    errors.UnknownCallError("fc", "aten.linear.default", 2, {("fc", "aten.linear.default"): 1}),
    errors.PluginError("a", "qreg-a", "1.0", "it raised", "qreg_lower", in_force=True),
    errors.ConflictError("backend", "toy", CLAIMS),
    errors.OrderError(["a", "b", "a"], "algorithms"),
    errors.BackendUnavailableError("toy", ["x is not installed"], ["x>=1"], ["apt install y"]),
    errors.ConfigError("text"),
    errors.AnnotatorError("linear", "qreg-a", "1.0", ["aten.linear.default"], "linear_1", "it"),
    errors.InputError("text"),
    errors.CalibrationError("it does not fit", batch=3, input="x"),
    errors.ExportError("text"),
    errors.NothingQuantizedError(["too small", "too small"]),
    errors.AlgorithmError("it failed", "gptq", " of 'qreg' 1.0"),
    errors.EvaluationError("the float model", "it returned None"),
    errors.TargetMissedError("text", (1, 2)),
    errors.TargetMissedWarning("text"),
    errors.RecipeError("text"),
    errors.PreparationError("relu_1", "net.act", 3.0, 60.0),
    errors.WorkerError("it is missing", host="n3", distribution="qreg-a"),
    errors.ProgramError("it fails", ["conv_1"], "Keep it in float."),
    errors.LoweringError("it fails", plugin="a", distribution="qreg-a", version="1", hook="lower"),
    errors.UnsupportedOperatorError("it fails", ["aten.stft"], "Replace it."),
    errors.StateError("it fails"),
    errors.VerificationError("it fails"),
    errors.LoadError("it fails"),
    errors.RunError("it fails"),
    errors.NaNError("it fails"),
    errors.QualityWarning("text", (1, 2)),
    errors.UnknownOperatorWarning("aten.linea", ["aten.linear"]),
    errors.AlgorithmWarning("text"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_a_pickled_error_has_its_text_and_its_fields(error: Exception) -> None:
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)


def test_every_class_with_fields_has_an_example() -> None:
    classes = {each for each in vars(errors).values() if isinstance(each, type)}
    errors_alone = {each for each in classes if issubclass(each, Exception)}
    assert {each for each in errors_alone if "__init__" in vars(each)} <= set(map(type, EXAMPLES))
