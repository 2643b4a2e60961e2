"""Skip the search of the stack for a deprecated caller of the partitioner.

The partitioner (executorch 1.4.1) warns if it is called by ``to_backend``, which qreg does not
call. For that it reads the source file of each function on the stack, in every lowering.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from qreg.backends.patching import patched
from qreg_xnnpack.compat import search_for_callers


def callers_known() -> AbstractContextManager[None]:
    """Answer that the caller is not deprecated, during a lowering."""
    return patched((*search_for_callers(), _not_deprecated))


def _not_deprecated(search: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda itself: False
