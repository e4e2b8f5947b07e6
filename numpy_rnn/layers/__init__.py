"""What users import: layers with torch.nn's arguments, whole models, a network, losses, optimizers, files."""

from . import losses, optim

__all__ = ["losses", "optim"]
