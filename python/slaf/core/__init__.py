"""Where ``slafdb`` has :class:`slaf.SLAFArray`."""

from slaf.core.slaf import __getattr__ as __getattr__
