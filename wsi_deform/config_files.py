"""Where the configurations that come with the program lie; nothing heavy is imported to find them."""

from __future__ import annotations

from pathlib import Path

# In a wheel they lie in the package, in a checkout (and so in an editable install) beside it.
CONFIG_FOLDERS = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")
DEFAULT = "dense"
"""The packaged configuration that `wsi-deform train` takes where no other is said.

``config.read_config`` of nothing gives the values of "joint" instead, which stored models count on.
"""


def packaged_configs() -> dict[str, Path]:
    """The configurations that come with the program: name, such as "joint", -> its YAML file."""
    for folder in CONFIG_FOLDERS:
        if (folder / "joint.yaml").is_file():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}
