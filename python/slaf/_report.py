"""What long operations and :meth:`slaf.SLAFArray.info` tell: text for people, fields for code."""

from __future__ import annotations

import json
from typing import Any


class Report:
    """A summary whose fields are attributes and whose ``str`` is a readable text.

    Examples
    --------
    >>> from slaf._report import Report
    >>> report = Report("3 cells", '{"n_cells": 3}')
    >>> report.n_cells, str(report)
    (3, '3 cells')
    """

    def __init__(self, text: str, fields: str):
        self._text = text
        self._fields: dict[str, Any] = json.loads(fields)

    def __getattr__(self, name: str) -> Any:
        # Unpickling asks for attributes before there are any.
        fields = self.__dict__.get("_fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(f"no field {name!r}; there are {sorted(fields)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._fields]

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        fields = ", ".join(f"{k}={v!r}" for k, v in self._fields.items() if _is_scalar(v))
        return f"Report({fields})"

    def to_dict(self) -> dict[str, Any]:
        """Give all fields as a dictionary that JSON can hold."""
        return dict(self._fields)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))
