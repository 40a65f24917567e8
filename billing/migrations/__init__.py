"""The schema's history: numbered files, read from first to last. Forward only; a mistake is mended by the next."""
