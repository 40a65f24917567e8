"""Facts leave Postgres: compared with the archive first, and found there afterwards."""
