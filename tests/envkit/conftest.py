"""Fixtures of every test of envkit."""

from fake_tools import machine, web

__all__ = ["machine", "web"]
