from . import annotate, builders, patterns, profitability, rules

__all__ = ["annotate", "builders", "patterns", "profitability", "rules"]
