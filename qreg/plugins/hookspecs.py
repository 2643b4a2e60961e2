"""The contract between qreg and its plugins.

A plugin is a module (or an object) named by an entry point of the group ``qreg``. It implements any
of the hooks below, each marked with ``@qreg.hookimpl``. Hooks return or yield values and do not
register anything themselves, so the host knows which plugin supplied each value. Loading a plugin
and calling the hooks that list must not import torch, since listing does both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

from qreg.plugins.types.algorithm import Algorithm
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
    """Return the backends that this plugin supplies.

    A backend declares its name, its default config, the packages that lowering needs, the graph
    transforms that run ahead of annotation, and how a lowered program is loaded and run. Its
    functions may import torch only when they are called.
    """


@hookspec
def qreg_supported_configs(backend: str) -> Iterable[SupportedConfig]:  # type: ignore[empty-body]
    """Return the named quantization configs that this plugin adds to ``backend``.

    Any number of plugins may add configs to a backend, whether or not they own it. A config covers
    the patterns of every annotator whose modes include the config's mode.
    """


@hookspec
def qreg_annotators(backend: str) -> Iterable[Annotator]:  # type: ignore[empty-body]
    """Return the annotators that this plugin adds to ``backend``.

    Annotators are called in the order in which they are yielded: first those of the plugin that
    owns the backend, then those of the other plugins in the order of their names. If two match the
    same operator, the earlier one annotates it. ``before`` and ``after`` of an annotator name
    annotators, of any plugin, that are called later or earlier than it.
    """


@hookspec
def qreg_algorithms() -> Iterable[Algorithm]:  # type: ignore[empty-body]
    """Return the algorithms that this plugin supplies, for every backend.

    Algorithms are tried in the order of their stages (``"float"``, ``"prepared"``,
    ``"precision"``, ``"converted"``), and in each stage in the order of their plugins' names and in
    which they are yielded, unless ``before`` and ``after`` require another. One whose changes do
    not improve the outputs on calibration batches that are held back is undone.
    """


@hookspec(firstresult=True)
def qreg_lower(
    backend: str,
    program: ExportedProgram | Mapping[str, ExportedProgram],
    options: Mapping[str, Any],
) -> Lowered | None:
    """Lower a float or converted program for ``backend``.

    ``program`` is an export of a float module or of the result of ``convert_pt2e``, and may be
    modified. For a backend with ``load_methods``, it may also be a dict of exports by the names of
    their methods; the result is then ``Lowered.of_methods``. ``options`` has a value for each
    lowering option of the backend; an implementation whose backend has none may omit the argument.

    Return ``None`` for a backend that this plugin does not lower for. The plugin that owns the
    backend is called first. An error raised during lowering is chained as the cause of a
    ``LoweringError`` that names the plugin and its distribution.
    """
