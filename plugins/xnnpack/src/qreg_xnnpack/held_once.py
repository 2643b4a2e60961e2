"""Hold the weights of a program once while it is lowered, and not at all afterwards.

executorch (1.4.1) copies the program of each delegate with its weights, so that the delegate can
rewrite the graph. The delegate replaces weights, and writes to none. torch (2.13) keeps all
delegates of a process, with the weights of their programs, and executorch the graphs of delegates
whose nodes it compares.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from qreg.backends.patching import patched
from qreg_xnnpack.compat import (
    copying_programs,
    forget_compared_nodes,
    forget_delegates,
    newest_fake_result,
)

if TYPE_CHECKING:
    from types import ModuleType


def weights_shared() -> AbstractContextManager[None]:
    """Make the copy of the program of a delegate share the weights, during a lowering."""
    return patched((*copying_programs(), _sharing_weights))


def _sharing_weights(module: ModuleType) -> SimpleNamespace:
    from torch.export import ExportedProgram

    def deepcopy(value: Any, known: dict[int, Any] | None = None) -> Any:
        known = known or {}
        if isinstance(value, ExportedProgram):
            weights = (*value.state_dict.values(), *value.constants.values())
            known |= {id(each): each for each in weights}
        return copy.deepcopy(value, known)

    return SimpleNamespace(**{**vars(module), "deepcopy": deepcopy})


@contextmanager
def forgetting_delegates() -> Iterator[None]:
    """Release, at the exit, the delegates that were called inside, and the nodes compared."""
    before = newest_fake_result()
    try:
        yield
    finally:
        forget_delegates(before)
        forget_compared_nodes()
