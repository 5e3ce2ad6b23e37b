"""The path by which programs import `logweir.loguru.Sink`."""

from logweir.integrations.loguru import Sink

__all__ = ["Sink"]
