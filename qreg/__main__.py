"""``python -m qreg`` is the command ``qreg``."""

from qreg.cli.main import main

main(prog_name="qreg")
