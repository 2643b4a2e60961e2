"""4-bit weights in groups and per channel: as torchao's ``quantize_`` and executorch run them.

Upstream's path is quantize_, export and XnnpackPartitioner, without qreg.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime
from torch import Tensor, nn
from torch.export import Dim
from torchao.quantization import quantize_
from torchao.quantization.granularity import PerAxis, PerGroup
from torchao.quantization.quant_api import Int8DynamicActivationIntxWeightConfig

import qreg
from qreg.algorithms import stock
from qreg.configs.factory import INT4
from qreg.configs.groups import groupwise_spec
from qreg.errors import ConfigError
from qreg.testing import annotate
from qreg_xnnpack import get_groupwise_quantization_config

GROUPWISE, PER_CHANNEL = "int4_dynamic_groupwise", "int4_dynamic_per_channel"
SIZES = {GROUPWISE: 32, f"{GROUPWISE}_128": 128}


class Layers(nn.Module):
    """Linears with and without bias and with a relu, on 2d and 3d inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.plain = nn.Linear(256, 512), nn.Linear(512, 64, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.plain(torch.relu(self.wide(x)))  # type: ignore[no-any-return]


class Several(nn.Module):
    """The same layers for each config, each with an input; the first one's are sequences."""

    def __init__(self, configs: Sequence[str]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.of = nn.ModuleDict({each: Layers() for each in configs})

    def forward(self, x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
        return [layers(each) for layers, each in zip(self.of.values(), (x, y, z), strict=True)]


def batches(count: int = 4) -> list[tuple[Tensor, ...]]:
    random = torch.Generator().manual_seed(1)
    shapes = (2, 3, 256), (4, 256), (4, 256)
    return [tuple(torch.randn(shape, generator=random) for shape in shapes) for _ in range(count)]


MODEL = Several([*SIZES, PER_CHANNEL]).eval()
DYNAMIC = ({1: Dim("tokens", max=64)}, {0: Dim("rows", max=64)}, None)


@pytest.fixture(scope="module")
def ours() -> qreg.Result:
    """The configs by scope, with any number of rows and of tokens."""
    quantizer = qreg.get_quantizer("xnnpack", PER_CHANNEL)
    for name in SIZES:
        quantizer.set_module_name(f"of.{name}", name)
    options = {"calibration": batches(), "progress": False, "dynamic_shapes": DYNAMIC}
    return qreg.quantize(MODEL, batches()[0], quantizer=quantizer, **options)


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    model = copy.deepcopy(MODEL)
    for name, part in model.of.items():
        how = Int8DynamicActivationIntxWeightConfig(
            weight_dtype=torch.int4,
            weight_granularity=PerGroup(SIZES[name]) if name in SIZES else PerAxis(0),
        )
        quantize_(part, how)
    return model


def ran(program: bytes, inputs: Sequence[Tensor]) -> list[Tensor]:
    loaded = Runtime.get().load_program(program)
    return [each.clone() for each in loaded.load_method("forward").execute(inputs)]


def test_programs_are_those_of_torchaos_path(ours: qreg.Result, theirs: nn.Module) -> None:
    """But for weights per channel: executorch rounds their scales to bfloat16 after quantize_."""
    exported = torch.export.export(theirs, batches()[0])
    edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    calls = [str(node.target) for node in edge.exported_program().graph.nodes]
    other = bytes(edge.to_executorch().buffer)
    pairs = zip(ran(ours.program, batches()[0]), ran(other, batches()[0]), strict=True)
    for one, two in list(pairs)[:-1]:
        torch.testing.assert_close(one, two, atol=1e-3, rtol=0)
    assert len(ours.program) == pytest.approx(len(other), rel=0.02)
    assert ours.lowered.delegates == calls.count("executorch_call_delegate") == 1


def test_weights_per_channel_are_torchaos(ours: qreg.Result, theirs: nn.Module) -> None:
    expected = theirs(*batches()[0])[-1]
    torch.testing.assert_close(ran(ours.program, batches()[0])[-1], expected, atol=1e-3, rtol=0)


def test_activations_are_rounded_per_token(ours: qreg.Result, theirs: nn.Module) -> None:
    """torchao's module rounds each row by itself, and has scales in float32."""
    small, large = torch.randn(1, 256), 1000 * torch.randn(1, 256)
    rows = torch.cat([small, large, small])
    inputs = torch.stack([rows, rows]), rows, torch.cat([rows, small])
    with torch.no_grad():
        pairs = list(zip(ran(ours.program, inputs), theirs(*inputs), strict=True))
    for one, two in pairs:
        torch.testing.assert_close(one[..., 0, :], two[..., 0, :], atol=1e-2, rtol=0)
        assert torch.equal(one[..., 0, :], one[..., 2, :])


def test_the_audit_shows_weights_of_4_bits(ours: qreg.Result) -> None:
    linears = [each for each in ours.lowered.operators if each.operator == "XNNFullyConnected"]
    assert [each.reads[0] for each in linears] == ["qdint8"] * 6
    assert sorted(each.reads[1] for each in linears) == ["qbint4"] * 4 + ["qcint4"] * 2
    assert ours.audit is not None
    assert ours.audit.defects == ()
    relus = len(SIZES) + 1
    assert ours.report.counts["int8"] == len(linears) + relus
    quantized = [each.config for each in ours.decisions if each.quantized]
    assert quantized == [name for name in (*SIZES, PER_CHANNEL) for _ in range(2)]


@pytest.mark.parametrize(
    ("layer", "size", "reason"),
    [
        (nn.Linear(48, 8), 32, "its 48 columns are not a multiple of the group size 32"),
        (nn.Linear(96, 8), 64, "its 96 columns are not a multiple of the group size 64"),
        (nn.Linear(16, 8), 32, "its 16 columns are not a multiple of the group size 32"),
    ],
)
def test_groups_that_do_not_divide_the_columns_are_refused(
    layer: nn.Linear, size: int, reason: str
) -> None:
    config = get_groupwise_quantization_config(size)
    found = annotate(layer, torch.randn(2, layer.in_features), config=config)
    found.assert_float("linear", because=reason)


def test_rows_of_odd_length_and_convolutions_are_refused() -> None:
    odd = annotate(nn.Linear(7, 8), torch.randn(2, 7), config=PER_CHANNEL)
    odd.assert_float("linear", because="7 columns of 4 bits")
    for config in (PER_CHANNEL, GROUPWISE):
        image = torch.randn(1, 32, 4, 4)
        found = annotate(nn.Conv2d(32, 8, 1), image, config=config)
        found.assert_float("conv2d", because="conv2d with weights of 4 bits")


@pytest.mark.parametrize("size", [0, 16, 33, -32])
def test_groups_that_the_delegate_does_not_run_are_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=rf"in groups of {size} \(expected a multiple of 32\)"):
        qreg.get_quantizer("xnnpack", get_groupwise_quantization_config(size))


def test_signed_scales_are_refused_as_the_delegate_does_not_load_them() -> None:
    config = get_groupwise_quantization_config(32)
    signed = dataclasses.replace(config, weight=groupwise_spec(INT4, 32, signed_scales=True))
    with pytest.raises(ConfigError, match="signed scales"):
        qreg.get_quantizer("xnnpack", signed)


class Tied(nn.Module):
    """A table that the head shares, and layers between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(200, 64)
        self.up, self.middle, self.down = nn.Linear(64, 256), nn.Linear(256, 96), nn.Linear(96, 64)
        self.head = nn.Linear(64, 200, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.middle(self.up(self.table(ids)).relu())
        return self.head(self.down(x.relu()))  # type: ignore[no-any-return]


IDS = [(torch.randint(0, 200, (2, 7)),) for _ in range(6)]


@pytest.fixture(scope="module")
def tied() -> qreg.Result:
    quantizer = qreg.get_quantizer("xnnpack", GROUPWISE)
    quantizer.set_module_name("middle", "int8_static_per_channel")
    quantizer.set_module_name("down", "int8_dynamic_per_channel")
    algorithms = [stock.gptq()]
    return qreg.quantize(
        Tied().eval(), IDS[0], calibration=IDS, quantizer=quantizer, algorithms=algorithms
    )


def test_groups_mix_with_static_and_dynamic_int8_in_one_model(tied: qreg.Result) -> None:
    linears = [each for each in tied.lowered.operators if each.operator == "XNNFullyConnected"]
    assert [each.reads[:2] for each in linears] == [
        ("qdint8", "qbint4"),
        ("qint8", "qcint8"),
        ("qdint8", "qcint8"),
        ("qdint8", "qbint4"),
    ]
    assert tied.audit is not None
    assert tied.audit.defects == ()
    assert tied.verification is not None
    assert tied.verification.to_float[0].sqnr > 15


def test_a_tied_table_is_stored_for_the_lookup_and_for_the_head(tied: qreg.Result) -> None:
    """The lookup reads float, since these configs have no embeddings; the head reads 4 bits."""
    table, head = 200 * 64 * 4, 200 * 64 * (4 + 16 / 32) / 8
    others = (64 * 256 * 4.5 + (256 * 96 + 96 * 64) * 8) / 8
    assert len(tied.program) == pytest.approx(table + head + others, rel=0.15)
    found = tied.report.operators
    (lookup,) = (each for each in found if each.operator == "aten.embedding.default")
    assert lookup.place != "int8"


def test_a_recipe_makes_the_same_program(tied: qreg.Result, tmp_path: Path) -> None:
    tied.recipe.save(tmp_path / "recipe.toml")
    again = qreg.quantize(Tied().eval(), IDS[0], recipe=tmp_path / "recipe.toml", progress=False)
    assert again.program == tied.program
