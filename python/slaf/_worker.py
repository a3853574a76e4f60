"""A worker process of a conversion, which Rust starts by the path of this file.

It loads the extension module by its path and not the package, which would load numpy and pandas:
that takes longer than a small part.
"""

import os
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader


def main(path: str) -> None:
    """Convert the parts that come on the standard input, with the extension module at `path`."""
    loader = ExtensionFileLoader("_slaf", path)
    spec = spec_from_loader("_slaf", loader)
    if spec is None:
        raise ImportError(f"{path} is no extension module")
    module = module_from_spec(spec)
    loader.exec_module(module)
    module.serve()
    # In the midst of a part nobody waits for it any more.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
