"""The path by which programs import `logweir.structlog.Processor`."""

from logweir.integrations.structlog import Processor

__all__ = ["Processor"]
