"""What depends on parameters alone is computed once, before preparing."""
