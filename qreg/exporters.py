"""An export format of transformers whose programs come from :func:`qreg.quantize`.

The formats of transformers lower a graph by themselves, so that a quantizer inside them is neither
audited nor verified. Importing this module registers one more format, ``"qreg"``, with what
transformers has for that, ``register_backend``. Nothing else of qreg imports it, or transformers.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from attrs import evolve
from torch.utils import _pytree as pytree

from qreg.backends.packages import TRANSFORMERS, needs
from qreg.bundles.bundle import Bundle
from qreg.bundles.reading import load
from qreg.errors import BundleError, ConfigError
from qreg.pipeline.quantize import quantize
from qreg.pipeline.result import Result
from qreg.quantizer.registry_quantizer import RegistryQuantizer

with needs(TRANSFORMERS, "qreg.exporters"):
    from transformers.exporters import DynamoConfig, DynamoExporter
    from transformers.exporters.auto import register_backend
    from transformers.exporters.runners.base import ModelRunner

FORMAT = "qreg"


@dataclass
class QregConfig(DynamoConfig):  # type: ignore[misc]
    """What a model is quantized with: a ``PT2EQuantizer(qreg.get_quantizer(...), batches)``.

    ``arguments`` go to :func:`qreg.quantize`, such as ``{"algorithms": ["smoothquant"]}``. The
    other fields are those of ``DynamoConfig``.

    Raises ``ConfigError`` for another quantizer.
    """

    export_format: str = FORMAT
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        inside = getattr(self.quantizer, "quantizer", None)
        if not isinstance(inside, RegistryQuantizer):
            raise ConfigError(
                f"quantizer: {type(inside or self.quantizer).__name__} is not one of qreg "
                "(expected a PT2EQuantizer around one). Pass "
                "PT2EQuantizer(qreg.get_quantizer(backend), calibration_dataset=batches)."
            )


class QregExporter(DynamoExporter):  # type: ignore[misc]
    """Export a model of transformers as a program of a qreg backend.

    The model is traced as ``DynamoExporter`` traces it. The program of each component is a
    :class:`~qreg.Result`. ``save_pretrained`` writes the files of its bundle as one archive, and
    ``ExportedModel.from_pretrained`` reads a :class:`~qreg.Bundle` from it.
    """

    export_format = FORMAT
    config_class = QregConfig
    program_suffix = ".qreg"
    # Reading a bundle runs nothing in it, but a program of x86_inductor is compiled code.
    requires_trust_remote_code = True

    def export_program(
        self, model: torch.nn.Module, sample_inputs: MutableMapping[str, Any], config: QregConfig
    ) -> tuple[Result, Any]:
        """Return the result of :func:`qreg.quantize`, and the metadata of the trace."""
        plain = DynamoConfig(
            dynamic=config.dynamic,
            strict=config.strict,
            dynamic_shapes=config.dynamic_shapes,
            prefer_deferred_runtime_asserts_over_guards=(
                config.prefer_deferred_runtime_asserts_over_guards
            ),
        )
        traced, metadata = super().export_program(model, sample_inputs, plain)
        given = config.quantizer
        batches = None
        if given.calibration_dataset is not None:
            batches = given.traced_calibration(dict(sample_inputs))
        result = quantize(
            traced, calibration=batches, quantizer=given.quantizer, **config.arguments
        )
        return result, metadata

    @classmethod
    def save_program(cls, program: Result | Bundle, path: str | Path) -> None:
        """Write a bundle as one archive. That of a bundle is copied."""
        if isinstance(program, Bundle):
            shutil.copyfile(program.path, path)
            return
        with tempfile.TemporaryDirectory() as folder:
            program.save_bundle(Path(folder) / "bundle")
            made = shutil.make_archive(f"{folder}/archive", "zip", f"{folder}/bundle")
            shutil.move(made, path)

    @classmethod
    def load_program(cls, path: str | Path) -> Bundle:
        """Read a bundle from its archive. Raises ``BundleError`` for a file of another kind."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                shutil.unpack_archive(path, folder, "zip")
            except (shutil.ReadError, BadZipFile) as cause:
                raise BundleError(
                    f"{path}: it is not an archive of a bundle (expected a file of save_pretrained)"
                ) from cause
            return evolve(load(folder), path=Path(path))


class QregRunner(ModelRunner):  # type: ignore[misc]
    """Run a program in the runtime of its backend, on the keyword arguments of the model."""

    def __init__(self, program: Result | Bundle, metadata: Any) -> None:
        super().__init__(metadata)
        self.program = program

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @classmethod
    def from_program(
        cls, program: Result | Bundle, metadata: Any, device: object = None
    ) -> QregRunner:
        """Return a runner of a program; it runs on the processor, whatever the ``device``."""
        return cls(program, metadata)

    def __call__(self, share_inputs: bool = True, share_outputs: bool = False, **given: Any) -> Any:
        """Return what the model returns. The runtime decides what is copied."""
        found = self.program.run(**self.metadata.in_constants, **given)
        return pytree.tree_unflatten(pytree.tree_leaves(found), self.out_spec)


register_backend(QregExporter, QregRunner)
