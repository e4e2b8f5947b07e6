"""Is it right? Gradient checks, real-time recurrent learning, comparisons, and a zoo of classic mistakes."""

from . import gradcheck, rtrl

__all__ = ["gradcheck", "rtrl"]
