"""Webhooks: which endpoint gets which event, and when; one attempt; and what goes wrong on request."""
