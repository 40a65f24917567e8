"""Fetches the documents of invoices, checks them, and has them stored: docs/moves/documents.md."""
