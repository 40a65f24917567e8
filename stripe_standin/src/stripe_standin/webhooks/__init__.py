"""Webhooks: who is told what happened and when, one attempt of it, and what goes wrong with it on request."""
