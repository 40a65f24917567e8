"""The command in this process, with the settings of one test's own service: see `command`. And a bucket: `buckets`."""

from buckets import administrator, bucket, made, taken
from command import run, run_apart, settings

__all__ = ["administrator", "bucket", "made", "run", "run_apart", "settings", "taken"]
