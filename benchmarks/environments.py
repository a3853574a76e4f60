"""One virtual environment per peer, made once and made again when its pins change."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import registry


def find_python(versions: tuple[str, ...]) -> str:
    """An interpreter of one of the versions: this one, one on the PATH, or one of pyenv's.

    Raises:
        SystemExit: None was found.
    """
    if f"{sys.version_info[0]}.{sys.version_info[1]}" in versions:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in versions:
        installed = [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python"))]
        for name in [f"python{version}", *installed]:
            path = shutil.which(name)
            # A pyenv shim is on the PATH even if no such Python is selected.
            if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
                return path
    raise SystemExit(f"no Python {' or '.join(versions)} found on the PATH")


def ensure(module: str, cache: Path) -> Path:
    """Interpreter of a peer's environment; creates and fills it if need be."""
    folder = cache / module
    interpreter = folder / "venv" / "bin" / "python"
    stamp = folder / "requirements.json"
    wanted = list(registry.REQUIREMENTS[module])
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return interpreter
    print(f"installing {', '.join(wanted)}", flush=True)
    if not interpreter.exists():
        python = find_python(registry.OLDER_PYTHONS.get(module, registry.PYTHONS))
        subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True)
    subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", *wanted], check=True)
    stamp.write_text(json.dumps(wanted))
    return interpreter


def find_slaf(asked: str | None, cache: Path) -> Path | None:
    """An interpreter that imports this project's `slaf`, or None.

    `slafdb` has the same import name, but not the extension module.
    """
    code = "from slaf import SLAFArray, _slaf"
    places = [asked] if asked else [sys.executable, str(cache.parent / "venv" / "bin" / "python")]
    for path in places:
        if not Path(path).exists():
            continue
        command = [path, "-c", code]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return Path(path)
        lines = result.stderr.strip().splitlines()
        print(f"{path}: {lines[-1] if lines else 'no slaf'}", flush=True)
    return None
