from .compiling import compile

__all__ = ["compile"]
