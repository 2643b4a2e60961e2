"""Claims a backend and an annotator that ``qreg-conflict-a`` claims too."""

import qreg


@qreg.hookimpl
def qreg_backends():
    yield qreg.Backend("contested", "claimed by two", "none", "nothing", ".none")


@qreg.hookimpl
def qreg_annotators(backend):
    if backend == "xnnpack":
        yield qreg.Annotator("contested", ["aten.neg.default"], qreg.patterns.operands(0))
