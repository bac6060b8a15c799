"""Print what the package needs, one requirement a line.

The image installs these before it has the source, whose own build would name them.
"""

import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
print(*project["dependencies"], sep="\n")  # noqa: T201
