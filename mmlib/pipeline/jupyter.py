"""Notebooks are executed with this Python and without the user's own settings.

IPython's start-up files and ``exec_lines``, kernels that are called python3 and start another Python, and a
matplotlibrc belong to the user's own work. A run with them is another run, or none.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KERNEL = "python3"  # the name that the committed notebooks carry, so that they open anywhere
ARGV = (
    sys.executable,
    "-m",
    "ipykernel_launcher",
    "-f",
    "{connection_file}",
    "--IPKernelApp.log_level=50",  # at its end it is interrupted, which below this it calls an error
)
# What decides settings of IPython, Jupyter and matplotlib, and is not ours.
LEFT_OUT = ("PYTHONSTARTUP", "MPLBACKEND", "JUPYTER_CONFIG_PATH", "JUPYTER_NO_CONFIG")


@contextmanager
def own_settings() -> Iterator[Path]:
    """Until the ``with`` block ends, processes that are started have empty settings; yields their folder."""
    with tempfile.TemporaryDirectory(prefix="mmlib-jupyter-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        before = dict(os.environ)
        os.environ.update(_settings(folder))
        for variable in LEFT_OUT:
            os.environ.pop(variable, None)
        try:
            yield folder
        finally:
            os.environ.clear()
            os.environ.update(before)


def kernel_manager(folder: Path) -> Any:
    """The class of managers that know one kernel: this Python, in the folder of ``own_settings``."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class OwnKernelManager(AsyncKernelManager):
        """Starts no kernel but ours, whatever is called the same elsewhere."""

        def __init__(self, **options: Any) -> None:
            kernels = KernelSpecManager(
                kernel_dirs=[str(folder / "kernels")], ensure_native_kernel=False
            )
            super().__init__(**options, kernel_spec_manager=kernels)

    return OwnKernelManager


def _settings(folder: Path) -> dict[str, str]:
    """Make the folders and files that the settings name, all empty but the kernel's specification."""
    spec = {"argv": list(ARGV), "display_name": "Python 3", "language": "python"}
    kernel = folder / "kernels" / KERNEL
    for empty in (kernel, folder / "ipython", folder / "jupyter"):
        empty.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    matplotlibrc = folder / "matplotlibrc"
    matplotlibrc.touch()
    jupyter = str(folder / "jupyter")
    return {
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": jupyter,
        "JUPYTER_DATA_DIR": jupyter,
        "JUPYTER_PATH": jupyter,
        "JUPYTER_RUNTIME_DIR": jupyter,
        "MATPLOTLIBRC": str(matplotlibrc),
    }
