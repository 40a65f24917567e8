"""Stripe's webhooks on this machine: an endpoint of the stand-in that leads to our `billing serve`."""

import re
from collections.abc import Sequence
from pathlib import Path

from jobs.local import checkout
from jobs.local.supervisor import Child
from jobs.process.service import ServiceProcess
from stripe_standin.control import Control

NOT_YET = "whsec_not_known_yet"
"""A server does not start without a secret, and the stand-in makes one only for an address that it is told."""
_LISTENING = re.compile(r"^listening on (http\S+)$", re.MULTILINE)


def make_secrets(file: Path) -> None:
    """The file that BILLING_WEBHOOK_SECRETS refers to, before there is an endpoint."""
    file.touch(mode=0o600)
    file.write_text(NOT_YET)


def lead_to(server: Child, runtime: ServiceProcess, secrets: Path, events: Sequence[str]) -> None:
    """Have the stand-in send these types of events to this `billing serve`, and write their secret where the server
    reads it: it does so at the first signature that it does not know. Raises LocalServerError."""
    server.wait_until(lambda: _LISTENING.search(server.output()) is not None, "`billing serve` to listen")
    (url,) = _LISTENING.findall(server.output())
    types = {f"enabled_events[{number}]": each for number, each in enumerate(events)}
    endpoint = checkout.made(runtime, "webhook_endpoints", {"url": f"{url}/webhooks/stripe", **types})
    # Stripe shows a secret once, when it is made; our gateway keeps none of an answer.
    secrets.write_text(Control(runtime.settings.stripe_api_base).roll_secret(endpoint))
