"""Arm for qreg: executorch's TOSA quantizer, TOSA programs that run, Ethos-U programs that do not.

Importing the plugin does not import torch: functions that need torch import it when called.
"""
