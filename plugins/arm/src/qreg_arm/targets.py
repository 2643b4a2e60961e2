"""The targets of the plugin, as one table; ``qreg list`` reads it, so imports must stay cheap."""

from __future__ import annotations

from typing import Any

from attrs import frozen

# A program accepts and returns float tensors and may keep operators in float, so it needs both
# profiles. executorch 1.4.1 lowers a float model to the same program with "TOSA-1.0+FP" alone.
PROFILE = "TOSA-1.0+INT+FP+int16"


@frozen
class Target:
    """A target of Arm's quantizer.

    ``macs`` are the sizes of an Ethos-U in multiply-accumulates per cycle, the default first. The
    target without ``macs`` is TOSA.
    """

    name: str
    summary: str
    macs: tuple[int, ...] = ()

    def compile_spec(self, macs: int | None = None) -> Any:
        """Return the target's compile spec for executorch's quantizer, partitioner and lowering."""
        if not self.macs:
            from executorch.backends.arm.tosa.compile_spec import TosaCompileSpec

            return TosaCompileSpec(PROFILE)
        from executorch.backends.arm.ethosu import EthosUCompileSpec

        accelerator = self.name.replace("_", "-")
        return EthosUCompileSpec(f"{accelerator}-{macs or self.macs[0]}")


TOSA = Target("arm", "int8 in TOSA, Arm's operator set for NPUs, GPUs and CPUs")
ETHOS_U = (
    Target("ethos_u55", "int8 on the Arm Ethos-U55 NPU", (128, 32, 64, 256)),
    Target("ethos_u65", "int8 on the Arm Ethos-U65 NPU", (256, 512)),
    Target("ethos_u85", "int8 on the Arm Ethos-U85 NPU", (256, 128, 512, 1024, 2048)),
)
TARGETS = {target.name: target for target in (TOSA, *ETHOS_U)}
