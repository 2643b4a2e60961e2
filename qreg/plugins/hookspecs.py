"""The contract between qreg and its plugins.

A plugin is a module (or an object) named by an entry point of the group ``qreg``. It implements any
of the hooks below, each marked with ``@qreg.hookimpl``. Hooks return or yield values, and never
register anything themselves: that is how the host knows which plugin supplied what. Loading a
plugin and calling the first three hooks must not import torch, since listing does both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

from qreg.plugins.types.annotator import Annotator
from qreg.plugins.types.backend import Backend, SupportedConfig
from qreg.plugins.types.program import Lowered

if TYPE_CHECKING:
    from torch.export import ExportedProgram


PROJECT = "qreg"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def qreg_backends() -> Iterable[Backend]:  # type: ignore[empty-body]
    """The backends this plugin supplies.

    A backend says what it is called, which config is its default, what must be installed to lower
    for it, which graph transforms run before annotation and how a lowered program is loaded and
    run. Its functions may import torch when they are called, not before.
    """


@hookspec
def qreg_supported_configs(backend: str) -> Iterable[SupportedConfig]:  # type: ignore[empty-body]
    """The named quantization configs this plugin adds to ``backend``.

    Any number of plugins may add configs to one backend, their own or somebody else's. A config
    covers the patterns of every annotator whose modes include the config's mode.
    """


@hookspec
def qreg_annotators(backend: str) -> Iterable[Annotator]:  # type: ignore[empty-body]
    """The annotators this plugin adds to ``backend``.

    Annotators are asked in the order in which they are yielded: first those of the plugin that
    owns the backend, then those of the other plugins in the order of their names. Wherever two
    match the same operator, the earlier one has it; ``before`` and ``after`` name annotators, of
    any plugin, to be asked later or earlier than this one.
    """


@hookspec(firstresult=True)
def qreg_lower(
    backend: str, program: ExportedProgram, options: Mapping[str, Any]
) -> Lowered | None:
    """Lowers a float or converted program for ``backend``.

    ``program`` is an export of the module that ``convert_pt2e`` returned, and may be changed.
    ``options`` has a value for each option that the backend has at lowering; an implementation
    whose backend has none may leave the argument out.
    Returns ``None`` for a backend that this plugin does not lower for. The plugin that owns the
    backend is asked first. Whatever the lowering raises reaches the user as the cause of a
    ``LoweringError`` that names the plugin and its distribution.
    """
