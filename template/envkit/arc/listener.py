"""Whether GitHub has let a listener in: that it runs says little, for one that is turned away runs for a while, too."""

from __future__ import annotations

from dataclasses import replace

from envkit.arc.kube import Kube
from envkit.arc.state import ArcState

_ASKS = "Getting next message"
"""What a listener logs each time it asks its session for work (listener/listener.go in actions/scaleset)."""

_LONG_SECONDS = 30
"""A listener whose log does not tell (`flags.logLevel: error`) counts after this long: one that is turned away ends."""


def with_session(kube: Kube, state: ArcState) -> ArcState:
    """The same state, in which a listener that has no session at GitHub, and so hears of no job, does not run."""
    listener = state.listener
    if not listener.running or listener.seconds >= _LONG_SECONDS:
        return state
    if any(_ASKS in line for line in kube.log(namespace=kube.controllers, target=listener.pod)):
        return state
    return replace(state, listener=replace(listener, running=False, detail="GitHub has not let it in yet"))
