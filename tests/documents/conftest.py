from command import run, settings
from keeping import archive_bucket, keeps, store

__all__ = ["archive_bucket", "keeps", "run", "settings", "store"]
