"""The way in process: torch.compile with what lowering makes sure of."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from qreg_x86_inductor.compat import frozen
from qreg_x86_inductor.guard import final_pass
from qreg_x86_inductor.lowering import check_machine

if TYPE_CHECKING:
    from torch.nn import Module


def compile(model: Module, **options: Any) -> Callable[..., Any]:
    """A converted model as a function that computes in int8; it is compiled at the first call.

    ``options`` are those of ``torch.compile``. The function takes what the model takes, keeps no
    gradients, and leaves its inputs and the model's parameters as they are, which ``torch.compile``
    alone does not. The weights are those of the first call: later changes to the model are not
    seen.

    Raises ``BackendUnavailableError`` without a C++ compiler, and ``LoweringError`` on another
    architecture than x86.
    """
    import torch

    from qreg.plugins.requirements import check_available
    from qreg_x86_inductor.plugin import X86_INDUCTOR

    check_available(X86_INDUCTOR)
    check_machine()
    guard = final_pass()
    compiled: Callable[..., Any] = torch.compile(model, **options)

    @wraps(model.forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad(), frozen(guard):
            return compiled(*args, **kwargs)

    return run
