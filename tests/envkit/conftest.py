"""Fixtures of every test of envkit."""

from fake_tools import machine, web
from image_registry import other_registry, registry
from proxies import no_proxy_of_this_machine

__all__ = ["machine", "no_proxy_of_this_machine", "other_registry", "registry", "web"]
