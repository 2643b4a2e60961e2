"""Arm for qreg: executorch's TOSA quantizer, TOSA programs that run, Ethos-U programs that do not.

Naming the plugin costs no torch: what needs it is imported where it is used.
"""
