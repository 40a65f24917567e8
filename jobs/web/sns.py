"""Amazon SNS messages over HTTPS: who has sent one, by its signature, and the confirmation of a subscription.

SNS signs with a key whose certificate it names by a URL. That is read only from an address of SNS's own, over TLS, and
of topics that a setting allows; so a message of anybody else makes this process ask nobody.
Source: docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html.
"""

import base64
import binascii
import json
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qs, urlsplit

import urllib3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.x509 import load_pem_x509_certificate

TIMEOUT_S = 5.0
ANSWER_MOST = 64 * 1024
"""Bytes of a certificate, or of the answer to a confirmation."""
CERTIFICATES_MOST = 20
"""So many are kept; a region has one at a time."""
ASKED_MOST, ASKED_WITHIN_S = 10, 60.0
"""So many certificates are asked for in this time: whoever knows a topic could name ever new ones."""

TOPIC = r"arn:aws(?:-cn|-us-gov)?:sns:(?P<region>[a-z]{2}(?:-[a-z]{2,9}){1,3}-\d):\d{12}:[A-Za-z0-9_-]{1,256}"
_TOPIC = re.compile(TOPIC, re.ASCII)
_CERTIFICATE = re.compile(r"/SimpleNotificationService-[0-9A-Za-z]{8,128}\.pem", re.ASCII)
_ID = re.compile(r"[0-9a-f-]{8,64}", re.ASCII)
_HASHES = {"1": SHA1, "2": SHA256}
_SIGNED: Mapping[str, tuple[str, ...]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
"""What is signed of each type, in this order; a field that is missing is left out."""


class Unsigned(StrEnum):
    """Why a message is not taken."""

    NOT_A_MESSAGE = "not_a_message"
    OTHER_TOPIC = "other_topic"
    NOT_OF_AMAZON = "not_of_amazon"
    """Its certificate, or the address to confirm at, is not at SNS's own address in the topic's region."""
    BAD_SIGNATURE = "bad_signature"
    NO_CERTIFICATE = "no_certificate"
    """It could not be read; SNS sends the message again."""


@dataclass(frozen=True, slots=True)
class SnsMessage:
    """One whose signature fits. `message`: its text."""

    type: str
    id: str
    message: str
    confirm_at: str | None


def ask(url: str) -> bytes:
    """The answer to a GET of this URL, over TLS, without following redirects. Raises OSError."""
    timeout = urllib3.Timeout(total=TIMEOUT_S)
    try:
        with urllib3.PoolManager(retries=False, timeout=timeout) as pool:
            answer = pool.request("GET", url, redirect=False, preload_content=False)
            body = answer.read(ANSWER_MOST + 1)
            answer.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise OSError(type(error).__name__) from None
    if answer.status != 200 or len(body) > ANSWER_MOST:
        raise OSError(f"status {answer.status}")
    return bytes(body)


@dataclass(slots=True)
class Sns:
    """Takes messages of these topics. `get` asks Amazon; for threads, because it waits for an answer."""

    topics: Collection[str]
    get: Callable[[str], bytes] = ask
    _keys: dict[str, RSAPublicKey] = field(default_factory=dict)
    _asked_at: list[float] = field(default_factory=list)

    def check(self, body: bytes) -> SnsMessage | Unsigned:
        """The message in these bytes, or why it is not taken. Cheap checks first: nobody is asked before the topic and
        both addresses are right."""
        fields = _fields(body)
        if fields is None:
            return Unsigned.NOT_A_MESSAGE
        topic = _TOPIC.fullmatch(fields["TopicArn"])
        if topic is None or fields["TopicArn"] not in self.topics:
            return Unsigned.OTHER_TOPIC
        url = fields["SigningCertURL"]
        if not _is_of_sns(url, topic["region"]) or not _CERTIFICATE.fullmatch(urlsplit(url).path) or "?" in url:
            return Unsigned.NOT_OF_AMAZON
        confirm_at = fields["SubscribeURL"] if fields["Type"] == "SubscriptionConfirmation" else None
        if confirm_at is not None and not _confirms(confirm_at, topic["region"], fields["TopicArn"]):
            return Unsigned.NOT_OF_AMAZON
        try:
            key = self._key(url)
        except (OSError, ValueError):
            return Unsigned.NO_CERTIFICATE
        try:
            signature = base64.b64decode(fields["Signature"], validate=True)
            key.verify(signature, _signed(fields), PKCS1v15(), _HASHES[fields["SignatureVersion"]]())
        except (InvalidSignature, binascii.Error, ValueError):
            return Unsigned.BAD_SIGNATURE
        return SnsMessage(fields["Type"], fields["MessageId"], fields["Message"], confirm_at)

    def confirm(self, url: str) -> None:
        """Confirm the subscription of a message that was checked. Raises OSError."""
        self.get(url)

    def _key(self, url: str) -> RSAPublicKey:
        if (known := self._keys.get(url)) is not None:
            return known
        now = time.monotonic()
        self._asked_at[:] = [*(at for at in self._asked_at if at > now - ASKED_WITHIN_S), now][-ASKED_MOST - 1 :]
        if len(self._asked_at) > ASKED_MOST:
            raise OSError("asked too often")
        key = load_pem_x509_certificate(self.get(url)).public_key()
        if not isinstance(key, RSAPublicKey):
            raise OSError("no RSA key")
        while len(self._keys) >= CERTIFICATES_MOST:
            self._keys.pop(next(iter(self._keys)))
        self._keys[url] = key
        return key


def _fields(body: bytes) -> Mapping[str, str] | None:
    """Every field that is needed, as text; None if one is missing or is something else."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.get("Type") not in _SIGNED:
        return None
    needed = {*_SIGNED[data["Type"]], "Signature", "SignatureVersion", "SigningCertURL"} - {"Subject"}
    if not all(isinstance(data.get(name), str) for name in needed) or data["SignatureVersion"] not in _HASHES:
        return None
    if not _ID.fullmatch(data["MessageId"]) or not isinstance(data.get("Subject", ""), str):
        return None
    return {name: value for name, value in data.items() if isinstance(value, str)}


def _signed(fields: Mapping[str, str]) -> bytes:
    parts = [f"{name}\n{fields[name]}\n" for name in _SIGNED[fields["Type"]] if name in fields]
    return "".join(parts).encode(errors="surrogatepass")


def _is_of_sns(url: str, region: str) -> bool:
    """Whether this is an address of SNS's own in this region. An address with a port or a user in it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    ends = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    plain = url.isascii() and url.isprintable() and "\\" not in url and " " not in url
    return plain and parts.scheme == "https" and parts.netloc == f"sns.{region}.{ends}" and not parts.fragment


def _confirms(url: str, region: str, topic: str) -> bool:
    """Whether a GET of this URL confirms a subscription to this topic, and does nothing else."""
    if not _is_of_sns(url, region):
        return False
    asked = parse_qs(urlsplit(url).query)
    return (
        urlsplit(url).path == "/"
        and asked.get("Action") == ["ConfirmSubscription"]
        and asked.get("TopicArn") == [topic]
    )
