"""A small client for the admin side, for tests and demonstrations. It starts nothing: give it an address.

control = Control("http://127.0.0.1:12111")
control.add_fault("drop_after_commit", path="/capture$", times=1)
...
assert [effect["kind"] for effect in control.effects()] == ["capture"]
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import urllib3

Json = dict[str, Any]

_ADDRESS = re.compile(r"https?://[^/\s]+/?")


class ControlError(Exception):
    """The stand-in refused a request to its admin side, for the reason in the text; or no stand-in answers."""


class Control:
    """Everything under `/_standin/`. Safe to share between threads; a new one is cheap after a fork.

    Raises ValueError for a wrong address, such as one without http://.
    """

    def __init__(self, url: str) -> None:
        if not _ADDRESS.fullmatch(url):
            raise ValueError(f"a stand-in's address is such as http://127.0.0.1:12111, and not {url!r}")
        self.url = url.rstrip("/")
        self._http = urllib3.PoolManager(retries=False, maxsize=4)

    def health(self) -> Json:
        return self._ask("GET", "health")

    def effects(self, kind: str | None = None, after: int = 0) -> list[Json]:
        """What really happened, in order, from number `after` + 1 on; of one kind if `kind` is given.

        Raises ControlError if there is no such kind.
        """
        effects: list[Json] = self._ask("GET", "effects", query={"kind": kind, "after": after})["effects"]
        return effects

    def requests(self, after: int = 0, path: str | None = None, key: str | None = None) -> list[Json]:
        """The requests to /v1, also those without an answer. `path` and `key` must be equal to the request's."""
        query = {"after": after, "path": path, "key": key}
        requests: list[Json] = self._ask("GET", "requests", query=query)["requests"]
        return requests

    def add_fault(
        self,
        fault: str,
        *,
        method: str | None = None,
        path: str | None = None,
        key: str | None = None,
        nth: int | None = None,
        times: int | None = None,
        probability: float | None = None,
        seed: int | None = None,
        seconds: float | None = None,
        megabytes: int | None = None,
        location: str | None = None,
        with_effect: bool = False,
        survives: bool = False,
    ) -> str:
        """Set a rule and return its id. `path` and `key` are regular expressions; a filter that is not given matches
        all.

        Without `times` it acts on every matching request; with `nth` alone, on that one only.
        """
        given = {name: value for name, value in locals().items() if name != "self"}
        rule = {name: value for name, value in given.items() if value is not None and value is not False}
        return self.add_faults([rule])[0]

    def add_faults(self, rules: Sequence[Mapping[str, Any]]) -> list[str]:
        ids: list[str] = self._ask("POST", "faults", list(rules))["ids"]
        return ids

    def faults(self) -> list[Json]:
        rules: list[Json] = self._ask("GET", "faults")["faults"]
        return rules

    def clear_faults(self) -> None:
        self._ask("DELETE", "faults")

    def held(self, count: int = 1, wait_s: float = 0) -> list[Json]:
        """The requests that are held. With `wait_s`, it waits until there are at least `count`, or the time is over."""
        held: list[Json] = self._ask("GET", "held", query={"count": count, "wait_s": wait_s}, timeout=wait_s)["held"]
        return held

    def wait_held(self, count: int = 1, wait_s: float = 10) -> list[Json]:
        """As `held`, but raises ControlError if there are fewer than `count` after `wait_s`."""
        held = self.held(count, wait_s)
        if len(held) < count:
            raise ControlError(f"{len(held)} of {count} requests were held after {wait_s} s")
        return held

    def release(self, ids: Sequence[str] | None = None, *, then: str = "proceed") -> list[str]:
        """Release these held requests, or all. `then="forget"`: drop them as if they were lost. Returns the released
        ids.

        Raises ControlError, and releases none, if one of them is not held (any more).
        """
        body: Json = {"then": then}
        if ids is not None:
            body["ids"] = list(ids)
        released: list[str] = self._ask("POST", "release", body)["released"]
        return released

    def clock(self) -> Json:
        return self._ask("GET", "clock")

    def advance(self, seconds: float, *, expire: bool = True) -> Json:
        """Move the clock forward.

        `expire=False`: authorizations expire, but are not canceled until a later move with `expire=True`.
        """
        return self._ask("POST", "clock", {"advance_s": seconds, "expire": expire})

    def keys(self) -> Json:
        return self._ask("GET", "keys")

    def set_keys(
        self,
        *,
        accepted: Sequence[str] | None = None,
        expired: Sequence[str] = (),
        accounts: Mapping[str, str] | None = None,
        permissions: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Json:
        """Which API keys are accepted (None: every well-formed one), which have expired, which account owns them.

        All four are set: what is not given gets its default. `permissions` says what a restricted key
        may do: {"rk_test_x": {"payment_intents": "read", "charges": "write"}}.
        """
        return self._ask(
            "POST",
            "keys",
            {
                "accepted": None if accepted is None else list(accepted),
                "expired": list(expired),
                "accounts": dict(accounts or {}),
                "permissions": {each: dict(allowed) for each, allowed in (permissions or {}).items()},
            },
        )

    def search(self) -> Json:
        """The delay of search, and the number of objects whose latest version it does not know yet."""
        return self._ask("GET", "search")

    def set_search_lag(self, seconds: float) -> Json:
        """Set the delay of search: 0 for none, 3600 for an outage.

        What search does not know yet stays unknown that long.
        """
        return self._ask("POST", "search", {"lag_s": seconds})

    def authorizations(
        self,
        count: int = 1,
        *,
        amount: int = 1999,
        currency: str = "usd",
        customer: str | None = None,
        metadata: Mapping[str, str] | None = None,
        card: str = "pm_card_visa",
        off_session: bool = False,
        livemode: bool = False,
        account: str | None = None,
    ) -> list[str]:
        """Make confirmed intents that wait to be captured, and return their ids."""
        asked = {name: value for name, value in locals().items() if name != "self" and value is not None}
        ids: list[str] = self._ask("POST", "authorizations", asked, timeout=120)["payment_intents"]
        return ids

    def webhooks(
        self, *, event: str | None = None, endpoint: str | None = None, after: int = 0, wait_s: float = 0
    ) -> Json:
        """Settings and attempts. With `wait_s`, it waits until no delivery is due, or the time is over."""
        query = {"event": event, "endpoint": endpoint, "after": after, "wait_s": wait_s}
        return self._ask("GET", "webhooks", query=query, timeout=wait_s)

    def set_webhooks(self, **settings: Any) -> Json:
        """Change what is named: `seed`, `duplicates`, `twins`, `delay_s`, `shuffle_s`, `outage`, `before_response`,
        `parallel`, `timeout_s`. `duplicates={"every": 2}` or `{"probability": 0.1}`, None to stop it; `twins` takes the
        same.
        """
        return self._ask("POST", "webhooks", settings)

    def wait_webhooks(self, wait_s: float = 10) -> list[Json]:
        """Wait until no delivery is due, and return every attempt.

        Raises ControlError if some are due after `wait_s`.
        """
        content = self.webhooks(wait_s=wait_s)
        if content["due"]:
            raise ControlError(f"{content['due']} webhooks were still due after {wait_s} s")
        attempts: list[Json] = content["attempts"]
        return attempts

    def resend(self, event: str, endpoint: str) -> None:
        """Deliver an event once more, outside of the automatic attempts."""
        self._ask("POST", "deliveries", {"event": event, "endpoint": endpoint})

    def roll_secret(self, endpoint: str, *, keep_s: int = 24 * 3600) -> str:
        """Make a new secret for an endpoint. The old one goes on signing for `keep_s` seconds."""
        secret: str = self._ask("POST", "secrets", {"endpoint": endpoint, "keep_s": keep_s})["secret"]
        return secret

    def authenticate(
        self, payment_intent: str, outcome: str = "succeeded", *, livemode: bool = False, account: str | None = None
    ) -> Json:
        """Act as the customer of an intent in `requires_action`. Returns the intent after that."""
        asked: Json = {"payment_intent": payment_intent, "outcome": outcome, "livemode": livemode}
        if account is not None:
            asked["account"] = account
        intent: Json = self._ask("POST", "authentications", asked)["payment_intent"]
        return intent

    def reset(self) -> None:
        """Forget everything, as after a start; only ids go on, so none is used twice."""
        self._ask("POST", "reset")

    def _ask(
        self,
        method: str,
        what: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        timeout: float = 0,
    ) -> Json:
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        url = f"{self.url}/_standin/{what}"
        # Ten seconds for the stand-in itself, plus the time that it was asked to wait.
        limit = urllib3.Timeout(10 + timeout)
        try:
            if method == "GET":
                answer = self._http.request(method, url, fields=given, timeout=limit)
            else:
                answer = self._http.request(method, url, json=body if body is not None else {}, timeout=limit)
            content: Json = answer.json()
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise ControlError(f"no stand-in answers at {self.url}") from error
        if answer.status != 200:
            raise ControlError(str(content.get("error", content)))
        return content
