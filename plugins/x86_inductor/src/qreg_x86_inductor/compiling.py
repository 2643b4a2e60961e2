"""Compile a converted model in process: ``torch.compile`` with the guarantees of lowering."""

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
    """Return a function that runs a converted model in int8; the first call compiles the model.

    ``options`` are passed to ``torch.compile``. The function accepts the arguments of the model and
    does not record gradients. It does not modify its inputs or the parameters of the model, which
    ``torch.compile`` alone may overwrite. The weights are frozen at the first call: later changes
    to the model have no effect.

    Raises ``BackendUnavailableError`` without a C++ compiler, and ``LoweringError`` on an
    architecture other than x86.
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
