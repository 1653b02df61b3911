"""What a wheel carries beside the modules: what the program needs of the checkout. settings.SHIPPED is where it is.

An editable install needs none of it: there the checkout is.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Shipped(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling; named in pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add them to the wheel."""
        if version != "editable":
            for name in ("sql", "dagster.yaml", "workspace.yaml"):
                build_data["force_include"][name] = f"arcadia_pipelines/{name}"
