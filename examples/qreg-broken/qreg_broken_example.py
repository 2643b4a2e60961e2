"""A plugin that raises while it lists its annotators, after the first of them."""

import qreg


@qreg.hookimpl
def qreg_annotators(backend):
    yield qreg.Annotator("half", ["aten.add.Tensor"], qreg.patterns.operands(0, 1))
    raise RuntimeError("broken on purpose")
