"""A message handed to Amazon SES (version 2 of its API). It says what is known of the message afterwards.

SES knows no key either: a request whose answer is lost may have been carried out, and is never made again by a machine.
Source: docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html.
"""

from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
)

from billing.email_notices import OF_SES
from billing.gateway import Answer, Budget, NoAnswer, NotSent, boot_clock
from jobs.email.messages import Message
from jobs.email.outcomes import accepted, not_now, refused

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 15
"""Together well below the 30 s of a call."""
_ABOUT_THE_MESSAGE = ("MessageRejected", "BadRequestException")
"""Everything else that SES refuses is about our account, its limits or its identities."""


class Ses:
    """Credentials are found by AWS's SDK: a role of the machine, or its variables."""

    def __init__(self, region: str, *, livemode: bool, endpoint: str | None = None) -> None:
        self.livemode = livemode
        self._region, self._endpoint = region, endpoint

    @cached_property
    def _client(self) -> Any:
        # One attempt: there is one loop of retries, ours, and a second try of the SDK could send twice.
        once = {"total_max_attempts": 1, "mode": "standard"}
        timeouts = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": READ_TIMEOUT_S}
        config = Config(retries=once, **timeouts)
        return boto3.client("sesv2", region_name=self._region, endpoint_url=self._endpoint, config=config)

    def deliver(self, message: Message, budget: Budget) -> Answer:
        """Once. Raises nothing for what SES did."""
        if budget.over_at - boot_clock() < CONNECT_TIMEOUT_S + READ_TIMEOUT_S:
            return NotSent("too late to start")
        try:
            done = self._client.send_email(
                FromEmailAddress=message.sender,
                Destination={"ToAddresses": [message.recipient]},
                Content={"Raw": {"Data": message.bytes_}},
            )
        except ClientError as error:
            code, status = _code(error), int(error.response["ResponseMetadata"].get("HTTPStatusCode", 0))
            if status >= 500:
                return NoAnswer(f"status {status}")
            return refused("message_rejected") if code in _ABOUT_THE_MESSAGE else not_now("ses_refused", code)
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            return not_now("server_away", type(error).__name__)
        except NoCredentialsError:
            return not_now("login_refused")
        except BotoCoreError as error:
            return NoAnswer(type(error).__name__)
        return accepted(f"{OF_SES}{done['MessageId']}", livemode=self.livemode)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
