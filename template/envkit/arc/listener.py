"""Whether GitHub has let a listener in: that it runs says little, for one that is turned away runs for a while, too."""

from __future__ import annotations

import re
from dataclasses import replace

from envkit.arc.kube import Kube
from envkit.arc.state import ArcState

_ASKS = "Getting next message"
"""What a listener logs each time it asks its session for work (listener/listener.go in actions/scaleset)."""

_TALKS = re.compile(r'\blevel"?[=:]\s*"?(debug|info)', re.IGNORECASE)
"""A line that a listener logs which would log that, too; with `flags.logLevel: error` there is none."""

_LONG_SECONDS = 30
"""A listener whose log cannot tell counts after this long."""


def with_session(kube: Kube, state: ArcState) -> ArcState:
    """The same state, in which a listener that has no session at GitHub, and so hears of no job, does not run."""
    listener = state.listener
    if not listener.running or _has_asked_for_runners(state):
        return state
    lines = kube.log(namespace=kube.controllers, target=listener.pod)
    if any(_ASKS in line for line in lines):
        return state
    if listener.seconds >= _LONG_SECONDS and not any(_TALKS.search(line) for line in lines):
        return state
    return replace(state, listener=replace(listener, running=False, detail="GitHub has not let it in yet"))


def _has_asked_for_runners(state: ArcState) -> bool:
    """Whether a runner waits that is younger than the listener.

    Only the listener sets how many runners there are, and it does so once it has a session: the controller makes every
    set of runners with none (`newEphemeralRunnerSet` in actions/actions-runner-controller).
    """
    return any(runner.phase in ("idle", "busy") and runner.seconds < state.listener.seconds for runner in state.runners)
