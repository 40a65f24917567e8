"""The command in this process, with the settings of one test's own service: see `command`. And a bucket: `buckets`."""

from buckets import bucket, made, taken
from command import run, settings

__all__ = ["bucket", "made", "run", "settings", "taken"]
