"""The settings of one test's own service in this process, and a bucket for the archive: see `command` and `buckets`."""

from buckets import bucket, made
from command import settings

__all__ = ["bucket", "made", "settings"]
