"""What a wheel is for, as hatchling asks while it builds one: the kernels of one architecture, or none.

NPDISTIL_WHEEL is an architecture of `npdistil/compiled/kernels`, for whose Linux the wheel then is (glibc and musl,
because the kernels need no library by name), or `any`: no kernels, for every other system. By default it is what this
machine is.
"""

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNELS = "npdistil/compiled/kernels"
TAG = "py3-none-manylinux_2_17_{0}.manylinux2014_{0}.musllinux_1_1_{0}"


class Kernels(BuildHookInterface):
    """Adds the kernels, which pyproject.toml leaves out of wheels, and the tag."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """As hatchling calls it, before each build."""
        if version == "editable":  # uses the tree as it is
            return
        architectures = sorted(folder.name for folder in (Path(self.root) / KERNELS).iterdir())
        wheel = os.environ.get("NPDISTIL_WHEEL") or own(architectures)
        if wheel in architectures:
            build_data["pure_python"] = False
            build_data["tag"] = TAG.format(wheel)
            build_data["force_include"][f"{KERNELS}/{wheel}"] = f"{KERNELS}/{wheel}"
        elif wheel != "any":
            raise ValueError(f"NPDISTIL_WHEEL is {wheel!r}; known are {', '.join(architectures)} and any")


def own(architectures: list[str]) -> str:
    """What this machine's Python can use."""
    machine = os.uname().machine if hasattr(os, "uname") else ""
    return machine if sys.platform == "linux" and sys.maxsize > 2**32 and machine in architectures else "any"
