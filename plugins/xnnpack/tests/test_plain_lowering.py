"""What executorch's own lowering makes of the quantizer's annotations, without a call of qreg."""

from __future__ import annotations

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from torch import Tensor, nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from qreg.verification.metrics import compare
from qreg_xnnpack import XNNPACKQuantizer, get_symmetric_quantization_config
from qreg_xnnpack.runtime import load


class Composites(nn.Module):
    """Operators that executorch decomposes, each between a convolution and a product."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(6))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        a, b, c, d, e, f = (conv(x) for conv in self.convs)
        found = (
            a.narrow(1, 0, 2),
            torch.cat(b.tensor_split(2, 1)[::-1], 1),
            torch.slice_copy(c, 1, 0, 2),
            torch.concat([d, d + 1], 1),
            e.clamp(min=-0.5, max=0.5),
            f.movedim(1, 2),
        )
        return tuple(each * 1.5 for each in found)


def test_composites_between_int8_operators_are_right_with_plain_executorch() -> None:
    model = Composites().eval()
    torch.manual_seed(1)
    batches = [(torch.randn(1, 4, 8, 8),) for _ in range(4)]
    config = get_symmetric_quantization_config(is_per_channel=True)
    quantizer = XNNPACKQuantizer().set_global(config)
    prepared = prepare_pt2e(torch.export.export(model, batches[0]).module(), quantizer)
    for batch in batches:
        prepared(*batch)
    exported = torch.export.export(convert_pt2e(prepared), batches[0])
    edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])

    found = load(bytes(edge.to_executorch().buffer))(batches[1])

    with torch.no_grad():
        wanted = model(*batches[1])
    assert [one.shape for one in found] == [other.shape for other in wanted]
    assert min(compare(*pair).sqnr for pair in zip(wanted, found, strict=True)) > 25
    calls = [str(node.target) for node in edge.exported_program().graph.nodes]
    left = [each for each in calls if "aten" in each]
    assert left == []
    assert {each.status for each in quantizer.decisions} <= {"annotated", "shared"}
