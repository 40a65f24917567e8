"""The schema's migrations: numbered files, in order, forward only; a later one corrects a mistake."""
