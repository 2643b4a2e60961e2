"""Pins programs as files, and that a result runs what it saves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import nn

import qreg
from qreg import Backend, Files, Registry
from qreg.errors import ConfigError, InputError
from qreg.plugins.plugin import Plugin
from qreg.plugins.supplied import Supplied
from qreg.programs.loading import read_lowered, write_program

HEAD = 8  # bytes of a program that go into a file of their own


def split(program: bytes) -> Mapping[str, bytes]:
    return {".toy": program[:HEAD], ".rest": program[HEAD:]}


def join(parts: Mapping[str, bytes]) -> bytes:
    return parts[".toy"] + parts[".rest"]


@pytest.fixture
def two_files(toy: ModuleType) -> Supplied:
    backend = evolve(toy.BACKEND, files=Files((".rest",), split, join))
    return Supplied(backend, Plugin("toy", "qreg-toy", "0.7", load=object))


@pytest.fixture
def result(registry: Registry) -> qreg.Result:
    return made(registry, nn.Linear(4, 4))


def made(registry: Registry, model: nn.Module, **options: Any) -> qreg.Result:
    batch = (torch.randn(2, 4),)
    return qreg.quantize(
        model,
        batch,
        backend="toy",
        calibration=[batch],
        progress=False,
        registry=registry,
        **options,
    )


def changed(toy: ModuleType, **fields: Any) -> Registry:
    """A registry whose toy backend has other fields."""

    class Changed:
        qreg_supported_configs = staticmethod(toy.qreg_supported_configs)
        qreg_annotators = staticmethod(toy.qreg_annotators)
        qreg_lower = staticmethod(toy.qreg_lower)

        @staticmethod
        @qreg.hookimpl
        def qreg_backends() -> list[Backend]:
            return [evolve(toy.BACKEND, **fields)]

    return Registry({"toy": Changed()}, entry_points=False)


def test_a_program_of_two_files_is_written_and_read_as_one(
    two_files: Supplied, tmp_path: Path
) -> None:
    program = bytes(range(32))
    write_program(two_files, tmp_path / "net.toy", program)
    assert (tmp_path / "net.toy").read_bytes() == program[:HEAD]
    assert (tmp_path / "net.rest").read_bytes() == program[HEAD:]
    assert read_lowered(two_files, tmp_path / "net.toy") == program


def test_a_missing_second_file_is_named(two_files: Supplied, tmp_path: Path) -> None:
    write_program(two_files, tmp_path / "net.toy", bytes(32))
    (tmp_path / "net.rest").unlink()
    with pytest.raises(InputError, match=r"net\.rest"):
        read_lowered(two_files, tmp_path / "net.toy")


def test_of_two_files_none_is_written_if_one_cannot_be(two_files: Supplied, tmp_path: Path) -> None:
    (tmp_path / "net.toy").write_bytes(b"the older one")
    (tmp_path / "net.rest").mkdir()  # stands where the second file is to go
    with pytest.raises(InputError, match="is a folder"):
        write_program(two_files, tmp_path / "net.toy", bytes(32))
    assert (tmp_path / "net.toy").read_bytes() == b"the older one"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["net.rest", "net.toy"]


@pytest.mark.parametrize("name", ["net.pte", "net", "net.toy.gz"])
def test_a_name_of_another_suffix_is_refused(
    result: qreg.Result, name: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"ends with \.toy"):
        result.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_result_runs_its_program(result: qreg.Result) -> None:
    x = torch.randn(2, 4)
    before = x.clone()
    assert torch.allclose(result.run(x), result.converted(x), atol=1e-6)
    assert torch.equal(x, before)


def test_a_program_gives_its_outputs_as_the_model_does(registry: Registry) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> dict[str, Any]:
            y = self.linear(x)
            return {"y": y, "both": (x + y, y)}

    found = made(registry, Two()).run(torch.ones(2, 4))
    assert list(found) == ["y", "both"]
    assert [tuple(each.shape) for each in found["both"]] == [(2, 4), (2, 4)]


def test_what_only_compiles_is_never_called_verified(toy: ModuleType) -> None:
    result = made(changed(toy, load=None), nn.Linear(4, 4))
    assert result.verification is None
    assert "not run here: toy only compiles" in str(result.report)
    assert "verified:" not in str(result.report)
    with pytest.raises(InputError, match="'toy' only compiles: its programs do not run here"):
        result.run(torch.ones(2, 4))


def test_a_simulator_is_not_timed(toy: ModuleType) -> None:
    from qreg.pipeline.result import report_of

    result = made(changed(toy, simulated=True), nn.Linear(4, 4))
    assert "a simulator, so its times are meaningless" in " ".join(
        report_of(result, timing=True).notes
    )


def test_dynamic_dimensions_are_refused_where_the_backend_has_none(toy: ModuleType) -> None:
    shapes = ({0: torch.export.Dim("batch", min=2, max=8)},)
    registry = changed(toy, dynamic_shapes=False)
    with pytest.raises(InputError, match="programs for 'toy' have one size"):
        made(registry, nn.Linear(4, 4), dynamic_shapes=shapes)
    with pytest.raises(InputError, match="programs for 'toy' have one size"):
        qreg.lower(
            nn.Linear(4, 4),
            torch.randn(2, 4),
            backend="toy",
            dynamic_shapes=shapes,
            registry=registry,
        )


def test_a_config_that_the_backend_refuses_is_an_error_when_it_is_chosen(toy: ModuleType) -> None:
    def narrow(config: Any) -> str | None:
        return "its activations are int8" if config.input_activation else None

    registry = changed(toy, refuses=narrow)
    with pytest.raises(ConfigError, match="not for backend 'toy': its activations are int8"):
        qreg.get_quantizer("toy", registry=registry)
    quantizer = qreg.get_quantizer("toy", None, registry=registry)
    with pytest.raises(ConfigError, match="the config is not for backend 'toy'"):
        quantizer.set_module_name("0", toy.int8("MinMaxObserver"))


@pytest.mark.parametrize("fold", [True, False])
def test_weights_are_stored_as_the_backend_wants_them(toy: ModuleType, fold: bool) -> None:
    converted = made(changed(toy, fold_quantize=fold), nn.Linear(4, 4)).converted
    kept = [node for node in converted.graph.nodes if node.op == "get_attr"]
    types = {
        getattr(converted, str(node.target), None).dtype for node in kept if "." not in node.target
    }
    assert (torch.int8 in types) is fold


def test_a_program_of_another_suffix_is_not_read(two_files: Supplied, tmp_path: Path) -> None:
    write_program(two_files, tmp_path / "net.toy", bytes(32))
    (tmp_path / "net.pte").write_bytes(b"another program")
    with pytest.raises(InputError, match=r"net\.pte is not a name for a program of backend 'toy'"):
        read_lowered(two_files, tmp_path / "net.pte")


def test_an_input_that_does_not_fit_is_named_before_the_program_is_run(
    result: qreg.Result,
) -> None:
    with pytest.raises(InputError, match="has shape"):
        result.run(torch.randn(2, 5))
    with pytest.raises(InputError, match="expected a tensor"):
        result.run(3)
