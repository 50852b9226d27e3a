"""The script that Workers, Templates and supervisors run: `python -P start.py ROLE`.

It makes this package, and nothing else of the operator's environment, importable: what a predictor can import is
decided by its own environment alone.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

_MODULES = {
    "supervisor": "cortex.worker.supervisor",
    "template": "cortex.worker.template",
    "worker": "cortex.worker.life",
}


def _make_importable(root: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "cortex", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no package at {root}")
    package = importlib.util.module_from_spec(spec)
    sys.modules["cortex"] = package
    spec.loader.exec_module(package)


def _main() -> int:
    if "cortex" not in sys.modules:
        _make_importable(Path(__file__).resolve().parent.parent)
    main: Callable[[], int] = importlib.import_module(_MODULES[sys.argv[1]]).main
    return main()


if __name__ == "__main__":
    sys.exit(_main())
