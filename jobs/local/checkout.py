"""What a shop's checkout would have done, done at the stand-in: a card is authorized, a customer is known.

Nothing here is ever sent to Stripe itself: whoever listens at STRIPE_API_BASE has to answer as the stand-in first.
"""

from billing.gateway import Budget, Request, Response, boot_clock
from billing.ids import new
from billing.money import Money
from jobs.local.supervisor import LocalServerError
from jobs.process.runtime import Runtime
from stripe_standin.control import Control, ControlError


def is_standin(url: str) -> bool:
    """Whether the stand-in, and not Stripe, listens there. Stripe speaks https, and the stand-in never does."""
    if not url.startswith("http://"):
        return False
    try:
        return bool(Control(url).health().get("ok"))
    except ControlError:
        return False


def authorize(runtime: Runtime, amount: Money) -> str:
    """A confirmed PaymentIntent that waits to be captured. Raises LocalServerError where no stand-in listens."""
    control = _control(runtime)
    account = runtime.settings.stripe_account
    try:
        (intent,) = control.authorizations(amount=amount.minor, currency=amount.currency.lower(), account=account)
    except ControlError as error:
        raise LocalServerError(f"the stand-in authorizes no {amount}: {error}") from None
    return intent


def customer(runtime: Runtime) -> str:
    """A customer to whom invoices can be sent. Raises LocalServerError where no stand-in listens."""
    _control(runtime)
    body = "name=Example&email=customer%40example.com"
    request = Request("POST", "/v1/customers", body, key=new("customer"), account=runtime.settings.stripe_account)
    answer = runtime.gateway(connections=1).send(request, Budget(boot_clock() + 5, boot_clock() + 10))
    if not isinstance(answer, Response) or answer.status != 200 or not answer.data:
        raise LocalServerError(f"the stand-in makes no customer: {answer}")
    return str(answer.data["id"])


def _control(runtime: Runtime) -> Control:
    url = runtime.settings.stripe_api_base
    if runtime.settings.livemode or not is_standin(url):
        raise LocalServerError(
            f"STRIPE_API_BASE={url} is not the stand-in, and only there a card is made up; `billing up` starts one"
        )
    return Control(url)
