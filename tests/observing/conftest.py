"""The command in this process, with the settings of one test's own service: see `command`."""

from command import run, settings

__all__ = ["run", "settings"]
