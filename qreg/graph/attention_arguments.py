"""The arguments of a call of attention, and whether they can be spelled out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from qreg.graph import masks
from qreg.graph.masks import RANK
from qreg.graph.nodes import shape_of
from qreg.graph.shared_heads import before_repeat

if TYPE_CHECKING:
    from torch.fx import Node

ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


@frozen
class Attention:
    """The arguments of a call: tensors of shape (batch, heads, positions, depth), and a mask."""

    query: Node
    key: Node
    value: Node
    mask: Node | None
    scale: float
    is_causal: bool
    has_dropout: bool

    @classmethod
    def of(cls, node: Node) -> Attention:
        given: dict[str, Any] = dict(zip(ARGUMENTS, node.args, strict=False)) | node.kwargs
        query, key, value = (given[name] for name in ARGUMENTS[:3])
        scale = given.get("scale")
        return cls(
            *(query, key, value, given.get("attn_mask")),
            scale=shape_of(query)[-1] ** -0.5 if scale is None else scale,
            is_causal=bool(given.get("is_causal")),
            has_dropout=bool(given.get("dropout_p")),
        )

    @property
    def is_supported(self) -> bool:
        shapes = [shape_of(each) for each in (self.query, self.key, self.value)]
        if self.has_dropout or any(len(shape) != RANK for shape in shapes):
            return False
        fixed = all(isinstance(size, int) for b, h, _, d in shapes for size in (b, h, d))
        (batch, heads, *_), (of_keys, shared, *_), of_values = shapes
        alike = of_values[:2] == [of_keys, shared] and of_keys == batch
        return fixed and alike and not heads % shared and self._takes_mask

    @property
    def _takes_mask(self) -> bool:
        """Whether the delegate's operators can apply the mask, where there is one."""
        if self.mask is None and not self.is_causal:
            return True
        import torch

        single = self.query.meta["val"].dtype is torch.float32
        if self.mask is None or not masks.fits(self.mask, self.query, self.key):
            return single and self.mask is None
        lengths = [shape_of(each)[2] for each in (self.query, self.key)]
        known = any(isinstance(size, int) for size in lengths)
        return single and (masks.is_for_all_heads(self.mask) or (known and self.times == 1))

    @property
    def times(self) -> int:
        """The number of heads that share a key."""
        return int(shape_of(self.query)[1] // shape_of(self.key)[1])

    def with_shared_heads(self) -> Attention:
        """Return the attention to the keys and values that repeats of heads were made from."""
        key, value = before_repeat(self.key), before_repeat(self.value)
        alike = shape_of(key)[:2] == shape_of(value)[:2]
        same = self.mask is None or masks.is_for_all_heads(self.mask)
        return evolve(self, key=key, value=value) if alike and same else self
