"""The number of batches that were read, and a hash of their values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from attrs import define, field, frozen
from torch import Tensor

Batch = tuple[Any, ...]


@frozen
class Fingerprint:
    """The number of batches, and the SHA-256 of the dtypes, shapes and values in their order."""

    batches: int
    sha256: str


@define
class Hashed(Iterable[Batch]):
    """Iterate over batches, and hash each while it passes by."""

    batches: Iterable[Batch]
    _count: int = field(default=0, init=False)
    _hash: Any = field(factory=hashlib.sha256, init=False)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            _add(self._hash, batch)
            self._count += 1
            yield batch

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the batches so far."""
        return Fingerprint(self._count, self._hash.hexdigest())


def hash_of(value: Any) -> str:
    """Return the SHA-256 of the dtypes, shapes and values of tensors, and of plain values."""
    made = hashlib.sha256()
    _add(made, value)
    return made.hexdigest()


def _add(hash_: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        kept = value.detach().cpu().contiguous()
        hash_.update(f"{kept.dtype} {tuple(kept.shape)} ".encode())
        hash_.update(kept.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        hash_.update(f"dict {len(value)} ".encode())
        for name, each in value.items():
            _add(hash_, str(name))
            _add(hash_, each)
    elif isinstance(value, (tuple, list)):
        hash_.update(f"list {len(value)} ".encode())
        for each in value:
            _add(hash_, each)
    elif isinstance(value, (str, int, float, bool, type(None))):
        hash_.update(f"{value!r} ".encode())
    else:  # a registered container of tensors
        leaves = torch.utils._pytree.tree_leaves(value)
        _add(hash_, type(value).__qualname__)
        if not any(leaf is value for leaf in leaves):
            _add(hash_, leaves)
