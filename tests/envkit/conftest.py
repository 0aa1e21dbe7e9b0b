"""Fixtures of every test of envkit."""

from fake_tools import machine, web
from image_registry import other_registry, registry

__all__ = ["machine", "other_registry", "registry", "web"]
