"""Run the command ``qreg`` as ``python -m qreg``."""

from qreg.cli.main import main

main(prog_name="qreg")
