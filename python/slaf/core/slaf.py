"""Where ``slafdb`` has :class:`slaf.SLAFArray`."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "SLAFArray":
        from slaf import SLAFArray
        from slaf._keywords import former

        former("slaf.core is now slaf: from slaf import SLAFArray")
        return SLAFArray
    raise AttributeError(f"module 'slaf.core.slaf' has no attribute {name!r}")
