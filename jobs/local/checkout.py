"""Does at the stand-in what a shop's checkout does at Stripe: authorizes a card, makes a customer.

Nothing here is ever sent to Stripe itself: the server at STRIPE_API_BASE must first answer as a stand-in. It is called
over HTTP, so it may run anywhere, and need not be installed here.
"""

import http.client
import json
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from billing.gateway import Budget, Request, Response, boot_clock
from billing.ids import new
from billing.money import Money
from jobs.local.supervisor import LocalServerError
from jobs.process.service import ServiceProcess

PATIENCE_S = 10


def is_standin(url: str) -> bool:
    """Whether a stand-in, and not Stripe, listens there. Stripe speaks https, and a stand-in never does."""
    address = urlsplit(url)
    if address.scheme != "http":
        return False
    connection = http.client.HTTPConnection(address.netloc, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/_standin/health")
        return json.loads(connection.getresponse().read()).get("ok") is True
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        return False
    finally:
        connection.close()


def authorize(runtime: ServiceProcess, amount: Money) -> str:
    """A confirmed PaymentIntent that waits to be captured. Raises LocalServerError where no stand-in listens."""
    card = {"payment_method": "pm_card_visa", "capture_method": "manual", "confirm": "true"}
    # So that parts of it may be captured one after the other: billing capture --remainder keep.
    card["payment_method_options[card][request_multicapture]"] = "if_available"
    # Without redirects it can be confirmed although no customer can return to a page.
    card |= {"automatic_payment_methods[enabled]": "true", "automatic_payment_methods[allow_redirects]": "never"}
    return made(runtime, "payment_intents", {"amount": amount.minor, "currency": amount.currency.lower(), **card})


def customer(runtime: ServiceProcess) -> str:
    """A customer to whom invoices can be sent. Raises LocalServerError where no stand-in listens."""
    return made(runtime, "customers", {"name": "Example", "email": "customer@example.com"})


def made(runtime: ServiceProcess, what: str, parameters: Mapping[str, str | int]) -> str:
    """The id of a new object at the stand-in. Raises LocalServerError where none listens, or if it refuses."""
    url, account = runtime.settings.stripe_api_base, runtime.settings.stripe_account
    if runtime.settings.livemode or not is_standin(url):
        raise LocalServerError(
            f"STRIPE_API_BASE={url} is not the stand-in, and cards are made only there; `billing up` starts one"
        )
    request = Request("POST", f"/v1/{what}", urlencode(parameters), key=new("checkout"), account=account)
    answer = runtime.gateway(connections=1).send(request, Budget(boot_clock() + 5, boot_clock() + PATIENCE_S))
    match answer:
        case Response(status=200, data={"id": str(made)}):
            return made
        case Response():
            raise LocalServerError(f"the stand-in answers {answer.status} ({answer.error_code}) to POST {request.path}")
        case _:
            raise LocalServerError(f"the stand-in does not answer POST {request.path}: {answer}")
