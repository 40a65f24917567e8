"""An endpoint at Stripe that sends its webhooks to a server of ours."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import urllib3
from service import Service, eventually

from jobs.local.supervisor import Child


def serving(directory: Path) -> dict[str, str]:
    """The settings of `billing serve`; its secrets are in a file there."""
    secrets = directory / "webhook_secrets"
    secrets.touch(mode=0o600)
    secrets.write_text("whsec_not_known_yet")
    return {"BILLING_WEBHOOK_SECRETS": f"file:{secrets}"}


def take_webhooks(service: Service, spawn: Callable[..., Child], directory: Path) -> None:
    """Start a server, and have every event sent to it."""
    send_to(service, spawn("serve", "--port", "0", **serving(directory)), directory)


def send_to(service: Service, server: Child, directory: Path) -> None:
    (url,) = eventually(lambda: re.findall(r"listening on (\S+)", server.output()), "it listens")
    (directory / "webhook_secrets").write_text(endpoint(service, f"{url}/webhooks/stripe"))


def endpoint(service: Service, url: str) -> str:
    """Make an endpoint. Its secret is shown once, and our gateway keeps none."""
    answer = urllib3.request(
        "POST",
        f"{service.stripe_api_base}/v1/webhook_endpoints",
        body=urlencode({"url": url, "enabled_events[0]": "*"}),
        headers={
            "Authorization": f"Bearer {service.stripe_key}",
            "Content-Type": "application/x-www-form-urlencoded",
        },
        retries=False,
    )
    assert answer.status == 200, answer.json()
    return str(answer.json()["secret"])
