"""The command in this process, with the settings of one test's own service: see `command`."""

from command import run, run_apart, settings

__all__ = ["run", "run_apart", "settings"]
