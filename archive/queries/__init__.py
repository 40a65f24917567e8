"""Queries over the archive: SQL over verified copies, in an engine that can read nothing else."""

from archive.queries.asking import Answer, Read, ask, ask_sql
from archive.queries.engine import Limits
from archive.queries.query_file import NAMES, Query, description, every, load

__all__ = ["NAMES", "Answer", "Limits", "Query", "Read", "ask", "ask_sql", "description", "every", "load"]
