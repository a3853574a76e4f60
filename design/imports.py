"""Circles of imports between the modules of each crate.

Prints every circle, and fails if one has more than two modules: two may call each other (a
mixture of samplers has samplers), a larger circle has no order in which it can be read.

    python design/imports.py
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

LARGEST = 2


def modules(src: Path) -> dict[str, Path]:
    """Name the modules of a crate as Rust does, without `crate`."""
    found = {}
    for path in src.rglob("*.rs"):
        parts = list(path.relative_to(src).with_suffix("").parts)
        if parts[-1] in ("mod", "lib", "main"):
            parts.pop()
        found["::".join(parts)] = path
    return found


def expand(tree: str) -> list[str]:
    """Split `a::{b, c::{d, e}}` into its paths."""
    tree = re.sub(r"\s+|\bas\s+\w+", "", tree)
    head, brace, rest = tree.partition("{")
    if not brace:
        return [tree]
    paths, depth, part = [], 0, ""
    for char in rest[: rest.rindex("}")] + ",":
        if char == "," and depth == 0:
            paths += expand(head + part) if part else []
            part = ""
            continue
        depth += {"{": 1, "}": -1}.get(char, 0)
        part += char
    return paths


def paths(text: str) -> list[str]:
    """Give the paths that a module uses outside of its tests."""
    text = re.split(r"#\[cfg\(test\)\]\s*mod ", text)[0]
    text = re.sub(r"//.*|\$crate[\w:]*|pub\(in [\w:]+\)", "", text)
    used = [p for tree in re.findall(r"\buse ([^;]+);", text) for p in expand(tree)]
    text = re.sub(r"\buse [^;]+;", "", text)
    return used + [m[0] for m in re.finditer(r"\b(?:crate|super|self)(?:::\w+)+", text)]


def resolve(path: str, module: str, names: dict[str, Path]) -> str | None:
    """Find the module that a path leads to, if it is one of this crate."""
    parts = path.split("::")
    base = module.split("::") if module else []
    if parts[0] == "crate":
        parts = parts[1:]
    elif parts[0] in ("super", "self"):
        while parts and parts[0] in ("super", "self"):
            base = base[:-1] if parts.pop(0) == "super" else base
        parts = base + parts
    elif "::".join([*base, parts[0]]) in names:
        parts = base + parts
    else:
        return None
    while parts and "::".join(parts) not in names:
        parts.pop()
    return "::".join(parts)


def graph(src: Path) -> dict[str, set[str]]:
    """Give the modules that each module imports."""
    names = modules(src)
    edges: dict[str, set[str]] = defaultdict(set)
    for module, path in names.items():
        found = {resolve(p, module, names) for p in paths(path.read_text())}
        edges[module] = {m for m in found if m is not None and m != module}
    return edges


def reachable(edges: dict[str, set[str]], start: str) -> set[str]:
    """Give all modules that a module imports, directly or not."""
    seen: set[str] = set()
    todo = list(edges[start])
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo += edges[module]
    return seen


def circles(src: Path) -> list[list[str]]:
    """Give the sets of modules that import each other."""
    edges = graph(src)
    behind = {module: reachable(edges, module) for module in list(edges)}
    found = {
        tuple(sorted(m for m in behind[module] if module in behind[m]))
        for module in behind
        if module in behind[module]
    }
    return [list(circle) for circle in sorted(found)]


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    failed = False
    for src in [*sorted(root.glob("crates/*/src")), root / "python/src"]:
        for circle in circles(src):
            failed |= len(circle) > LARGEST
            print(f"{src.relative_to(root)}: {' <-> '.join(m or 'lib' for m in circle)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
