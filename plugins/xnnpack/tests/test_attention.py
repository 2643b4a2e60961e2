"""Attention runs on operators that the delegate has, with the values that torch gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as attention

import qreg
from qreg.verification.metrics import compare

SHAPE = (2, 3, 7, 8)  # batch, heads, positions, depth


class Attention(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs).relu()


def tensors(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(shape) for shape in shapes)


def run(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[qreg.Lowered, float]:
    """The lowered program, and the SQNR of its output to torch's."""
    model = Attention(function).eval()
    lowered = qreg.lower(model, inputs)
    (output,) = loaded(lowered)(inputs)
    return lowered, compare(model(*inputs), output).sqnr


def loaded(lowered: qreg.Lowered) -> qreg.Runner:
    backend = qreg.plugins.registry.installed().backend("xnnpack").value
    assert backend.load is not None
    return backend.load(lowered.program)


def all_seen(query: Tensor, key: Tensor) -> Tensor:
    """A mask as transformers makes it: computed from positions, and hiding nothing."""
    return (torch.arange(key.shape[2])[None, None, None, :] >= 0).expand(
        query.shape[0], 1, query.shape[2], key.shape[2]
    )


PLAIN: dict[str, Callable[..., Tensor]] = {
    "without a mask": attention,
    "with a scale": lambda q, k, v: attention(q, k, v, scale=0.3),
    "with a scale of zero": lambda q, k, v: attention(q, k, v, scale=0.0),
    "with a mask that hides nothing": lambda q, k, v: attention(q, k, v, all_seen(q, k)),
    "with a mask of zeros": lambda q, k, v: attention(q, k, v, torch.zeros(7, 7)),
}


@pytest.mark.parametrize("case", PLAIN)
def test_attention_that_hides_nothing_is_in_one_delegate(case: str) -> None:
    lowered, sqnr = run(PLAIN[case], *tensors(SHAPE, SHAPE, SHAPE))
    assert (lowered.delegates, lowered.outside) == (1, ())
    assert sqnr > 100


def test_keys_of_another_length_are_attended_too() -> None:
    other = (2, 3, 5, 8)
    lowered, sqnr = run(attention, *tensors(SHAPE, other, other))
    assert (lowered.delegates, lowered.outside) == (1, ())
    assert sqnr > 100


def rows(q: Tensor, k: Tensor) -> Tensor:
    """A mask of the inputs, in which the first query of each head sees no key."""
    return (q[:, :1, :, :1] * torch.arange(1, k.shape[2] + 1.0) > 0.2) & (
        torch.arange(q.shape[2]) > 0
    )[:, None]


def grouped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of models whose heads share keys, as transformers writes it."""
    repeated = [x[:, :1, None].expand(2, 1, 3, -1, 8).reshape(2, 3, -1, 8) for x in (k, v)]
    return attention(q, *repeated, mask)


# Each hides keys: that of constants, that of positions, and that of the data.
HIDING: dict[str, Callable[..., Tensor]] = {
    "causal": lambda q, k, v: attention(q, k, v, is_causal=True),
    "causal, with fewer keys": lambda q, k, v: attention(
        q, k[:, :, :4], v[:, :, :4], is_causal=True
    ),
    "a constant mask": lambda q, k, v: attention(q, k, v, torch.ones(7, 7).tril().bool()),
    "a mask of numbers": lambda q, k, v: attention(q, k, v, torch.arange(7.0).expand(7, 7)),
    "numbers of minus infinity": lambda q, k, v: attention(
        q, k, v, torch.where(rows(q[:1], k), 0.5, -torch.inf)
    ),
    "a mask for each head": lambda q, k, v: attention(q, k, v, q[:, :, :, :7] > 0),
    "a mask for each sequence": lambda q, k, v: attention(q, k, v, rows(q, k)),
    "a mask of keys": lambda q, k, v: attention(q, k, v, rows(q, k)[:, :, 1:2]),
    "shared heads": lambda q, k, v: grouped(q, k, v, rows(q[:1], k)),
    "shared heads without a mask": grouped,
    "shared heads by a flag": lambda q, k, v: attention(
        q, k[:, :1], v[:, :1], rows(q[:1], k), enable_gqa=True
    ),
}


class Every(nn.Module):
    """All cases in one program."""

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return [HIDING[case](*inputs).relu() for case in HIDING]


@pytest.fixture(scope="module")
def every() -> tuple[qreg.Lowered, tuple[Tensor, ...]]:
    inputs = tensors(SHAPE, SHAPE, SHAPE)
    return qreg.lower(Every().eval(), inputs), inputs


def test_masks_are_applied_as_torch_applies_them(
    every: tuple[qreg.Lowered, tuple[Tensor, ...]],
) -> None:
    lowered, inputs = every
    outputs = loaded(lowered)(inputs)
    for case, output in zip(HIDING, outputs, strict=True):
        wanted = HIDING[case](*inputs).relu()
        assert compare(wanted, output).sqnr > 100, case
        without_keys = (wanted == 0).all(-1)
        assert (output[without_keys] == 0).all(), case


def test_masked_attention_computes_in_the_delegate(
    every: tuple[qreg.Lowered, tuple[Tensor, ...]],
) -> None:
    outside = set(every[0].outside)
    assert not outside & {f"aten.{name}.default" for name in ("bmm", "_softmax", "full_like")}
    assert not outside & {"aten.any.dim", "aten.eq.Scalar", "aten.mul.Scalar"}


class Strides(nn.Module):
    """Constants with other strides than a new tensor has, each read by an output of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one_head = nn.Parameter(torch.randn(7, 7, 1).permute(2, 0, 1)[None])
        self.heads = nn.Parameter(torch.randn(1, 3, 7, 7).to(memory_format=torch.channels_last))
        self.linear, self.conv = nn.Linear(8, 8), nn.Conv2d(3, 3, 3)
        self.linear.weight = nn.Parameter(torch.randn(8, 8).t())
        self.conv.to(memory_format=torch.channels_last)
        self.register_buffer("expanded", torch.randn(3, 1, 1).expand(3, 7, 8))
        self.register_buffer(
            "state", torch.randn(SHAPE).to(memory_format=torch.channels_last), persistent=False
        )

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> dict[str, Tensor]:
        self.state.add_(q)
        return {
            "a bias of one head": attention(q[:, :1], k[:, :1], v[:, :1], self.one_head),
            "a bias of one head, added": (q[:, :1] @ k[:, :1].mT + self.one_head).softmax(-1),
            "a bias of heads": attention(q, k, v, self.heads),
            "a part": self.heads.select(1, 1) + q[0, 0, :, :7],
            "weights": self.conv(self.linear(q)),
            "an expanded constant": q * self.expanded,
            "state": self.state * 2,
        }


def test_constants_are_right_whatever_their_strides() -> None:
    inputs = tensors(SHAPE, SHAPE, SHAPE)
    run = loaded(qreg.lower(Strides().eval(), inputs))
    wanted = Strides().eval()(*inputs)
    for (case, each), output in zip(wanted.items(), run(inputs), strict=True):
        assert compare(each, output).sqnr > 100, case


def test_a_mask_is_written_once_for_all_layers_of_any_length() -> None:
    class Layers(nn.Module):
        def forward(self, q: Tensor, k: Tensor, positions: Tensor) -> Tensor:
            mask = torch.arange(9) <= positions[:, None]
            for _ in range(2):
                q = grouped(q, k, k, mask)
            return q

    q, k = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 9, 8)
    length = torch.export.Dim("length", max=9)
    shapes = {"q": {2: length}, "k": None, "positions": {0: length}}
    lowered = qreg.lower(Layers(), (q, k, torch.arange(4)), dynamic_shapes=shapes)
    assert lowered.outside.count("aten.le.Tensor") == 1
    assert lowered.outside.count("dim_order_ops._to_dim_order_copy.default") == 1
    run = loaded(lowered)
    for count in (1, 4, 9):
        given = torch.randn(2, 3, count, 8), k, torch.arange(count)
        assert compare(Layers()(*given), run(given)[0]).sqnr > 100


def test_attention_of_another_rank_stays_as_torch_takes_it_apart() -> None:
    _, sqnr = run(lambda q, k, v: attention(q[0], k[0], v[0]), *tensors(SHAPE, SHAPE, SHAPE))
    assert sqnr > 100


def test_attention_as_an_output_is_still_the_output() -> None:
    class Bare(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            return attention(q, k, v), q + 1

    inputs = tensors(SHAPE, SHAPE, SHAPE)
    lowered = qreg.lower(Bare(), inputs)
    outputs = loaded(lowered)(inputs)
    torch.testing.assert_close(outputs[0], attention(*inputs), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs[1], inputs[0] + 1)


def test_an_encoder_layer_is_quantized_and_its_attention_known_by_name(quantized: Any) -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
    result = quantized(layer, (1, 6, 16))
    names = [each.node for each in result.decisions if "attention" in each.operator]
    assert {result.audit.placements[name].place for name in names} <= {"float"}
    assert result.verification.to_converted[0].sqnr > 30


class Residuals(nn.Module):
    """Sums of rows of very different sizes, ahead of a norm, in several places."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = (nn.Linear(16, 16) for _ in range(3))
        self.norm, self.groups = nn.LayerNorm(16), nn.GroupNorm(1, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        once = x + self.first(x)
        return {
            "a norm": self.head(self.norm(once))[:, 0],
            "a sum and a norm": self.head(self.norm(once + x))[:, 0],
            "a view and a norm": self.head(self.norm(once.flatten(0, 1)))[0],
            "another norm": self.head(self.groups(self.second(x) + x))[:, 0],
        }


def test_rows_of_a_sum_that_a_norm_reads_keep_their_values_however_small() -> None:
    sizes = torch.tensor([1.0, *[50.0] * 5])[:, None]
    batches = [(torch.randn(1, 6, 16) * sizes,) for _ in range(4)]
    model = Residuals().eval()
    # The linear ahead of the sum has one scale for all rows too: what it costs is not of interest.
    quantizer = qreg.get_quantizer("xnnpack").set_module_name("first", None)
    found = qreg.quantize(
        model, batches[0], calibration=batches, quantizer=quantizer, progress=False
    )
    sums = [each for each in found.decisions if each.operator == "aten.add.Tensor"]
    assert {each.status for each in sums} == {"float"}
    for case, wanted in model(*batches[1]).items():
        if case != "another norm":  # over all rows
            assert compare(wanted, found.run(*batches[1])[case]).sqnr > 25, case
