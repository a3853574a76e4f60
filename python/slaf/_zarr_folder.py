"""Whose the files in a folder of Zarr are: it is replaced only if all of them are Zarr's."""

from __future__ import annotations

import json
from pathlib import Path

_OF_GROUPS = {".zgroup", ".zattrs", ".zmetadata", "zarr.json"}


def foreign_in_zarr(path: Path) -> Path | None:
    """Find something in a folder that Zarr did not write; `path` itself if it is no group."""
    if path.is_symlink() or not path.is_dir():
        return path
    entries = sorted(path.iterdir())
    # An empty folder is nobody's loss.
    if not entries:
        return None
    names = {entry.name for entry in entries}
    if not names & {".zgroup", "zarr.json"}:
        return entries[0]
    for entry in entries:
        if entry.name in _OF_GROUPS and entry.is_file():
            continue
        if not entry.is_dir() or entry.is_symlink():
            return entry
        # What is in the folder of an array is its chunks.
        other = None if _is_array(entry) else foreign_in_zarr(entry)
        if other is not None:
            return other
    return None


def _is_array(folder: Path) -> bool:
    if (folder / ".zarray").is_file():
        return True
    try:
        told = json.loads((folder / "zarr.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and told.get("node_type") == "array"
