"""What the retention policy asks of the bucket: a default lock, rules of expiry, and statements that deny.

Pure: from the policy, and from what the bucket has, to what differs. `bucket_changes` reads and writes the bucket.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from archive.documents.stored import RETENTION_CLASS
from archive.format import manifests, records
from archive.format.layout import DOCUMENTS
from archive.policy.retention import MOST_DAYS, Mode, Policy
from archive.policy.retention import Rule as PolicyRule
from archive.s3.configuration import Configuration, DefaultLock
from archive.s3.store import PROBES

OBJECTS = f"v{records.VERSION}/"
EVIDENCE = (OBJECTS, f"{manifests.PREFIX.partition('/')[0]}/", "keys/", DOCUMENTS)
"""Where nobody may delete: objects, manifests, public keys, and documents."""
OURS = "Billing"
"""How the Sid of a statement of ours begins. Other statements stay: they may let another account read."""
ONLY_NEW_KEYS = f"{OURS}OnlyNewKeys"
UNMOVED = "-unmoved"
"""How the name of a rule ends whose objects stay in their storage class, because the server refused to move them."""
NONCURRENT_DAYS = 1
FINISHED_LATE_DAYS = 30
"""A batch gets its lock when it is claimed, and may be written after an outage: then that many days less are left."""

Rule = Mapping[str, Any]
Statement = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One part of the bucket's configuration that is not as the policy asks.

    `shorter`: applying it would shorten. `refused`: what this server did not do when it was applied; None if it was not
    asked.
    """

    part: str
    bucket: str
    policy: str
    shorter: bool = False
    refused: str | None = None

    def __str__(self) -> str:
        if self.refused:
            return f"{self.part}: this server does not {self.refused}; the rest of the rule is there"
        return f"{self.part}: the bucket has {self.bucket}, the policy asks for {self.policy}"


def prefix(retention_class: str) -> str:
    return f"{OBJECTS}class={retention_class}/"


def default_lock(policy: Policy) -> DefaultLock:
    """The lock of an object that was put without one: that of the class with the shortest time, as a safety net."""
    shortest = min(policy.rules.values(), key=lambda rule: rule.keep.least_days)
    return DefaultLock(shortest.mode, shortest.keep.least_days)


def places(policy: Policy) -> Iterator[tuple[str, str, PolicyRule]]:
    """Each place whose objects expire, after what its rule is called, and with the rule of its class."""
    for name, rule in policy.rules.items():
        yield name, prefix(name), rule
    yield "documents", DOCUMENTS, policy.rules[RETENTION_CLASS]


def lifecycle(policy: Policy) -> list[Rule]:
    """A rule for each class and for documents, and two for delete markers with nothing below them. None for manifests:
    they stay.

    S3 counts from the day on which an object was written, and never deletes a locked version.
    Source: docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
    """
    rules: list[Rule] = [
        {
            "ID": f"billing-{name}",
            "Status": "Enabled",
            "Filter": {"Prefix": place},
            # In a versioned bucket the first makes a delete marker, and the second deletes the version below it.
            "Expiration": {"Days": rule.most_days + policy.grace_days},
            "NoncurrentVersionExpiration": {"NoncurrentDays": NONCURRENT_DAYS},
        }
        | (
            {"Transitions": [{"Days": each.days, "StorageClass": each.storage} for each in rule.transitions]}
            if rule.transitions
            else {}
        )
        for name, place, rule in places(policy)
    ]
    gone = {"Status": "Enabled", "Expiration": {"ExpiredObjectDeleteMarker": True}}
    return [
        *rules,
        {"ID": "billing-markers", "Filter": {"Prefix": OBJECTS}, **gone},
        {"ID": "billing-markers-documents", "Filter": {"Prefix": DOCUMENTS}, **gone},
    ]


def without_moves(rule: Rule) -> Rule:
    """The same for a server that refuses to move objects to other storage, under a name that says so."""
    if "Transitions" not in rule:
        return rule
    rest = {name: value for name, value in rule.items() if name != "Transitions"}
    return {**rest, "ID": f"{rule['ID']}{UNMOVED}"}


def statements(policy: Policy, bucket: str) -> list[Statement]:
    """What nobody may do, not even an administrator, unless he changes these statements first.

    They do not bind the rules of expiry.
    Source: docs.aws.amazon.com/AmazonS3/latest/userguide/how-to-set-lifecycle-configuration-intro.html
    """
    evidence = [f"arn:aws:s3:::{bucket}/{place}*" for place in EVIDENCE]
    but_one = {"Condition": {"StringNotEquals": {"aws:PrincipalArn": policy.bypass_role}}} if policy.bypass_role else {}
    longest = [rule.most_days for rule in (*policy.rules.values(), policy.manifests) if rule]
    found = [
        _deny("NobodyBypasses", ["s3:BypassGovernanceRetention"], evidence, but_one),
        _deny("NobodyDeletes", ["s3:DeleteObject", "s3:DeleteObjectVersion"], evidence),
        # Also below `probes/`, so that it can be tried whether this server knows the conditions. The second is for
        # servers that take a missing key for any key: without it SeaweedFS would refuse every object.
        # Source: docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
        _deny(
            ONLY_NEW_KEYS.removeprefix(OURS),
            ["s3:PutObject"],
            [*evidence, f"arn:aws:s3:::{bucket}/{PROBES}*"],
            {
                "Condition": {
                    "Null": {"s3:if-none-match": "true"},
                    "Bool": {"s3:ObjectCreationOperation": "true"},
                }
            },
        ),
        # Whoever could lock an object for a century could make it cost for a century.
        _deny(
            "NoLongerLocks",
            ["s3:PutObject", "s3:PutObjectRetention"],
            evidence,
            _remaining("NumericGreaterThan", min(max(longest) + policy.grace_days, MOST_DAYS)),
        ),
    ]
    for name, place, rule in places(policy):
        if (least := rule.keep.least_days - FINISHED_LATE_DAYS) > 0:
            objects = [f"arn:aws:s3:::{bucket}/{place}*"]
            sid = f"NoShorterLocks{name.capitalize()}"
            found.append(_deny(sid, ["s3:PutObject"], objects, _remaining("NumericLessThan", least)))
    return found


def _deny(sid: str, actions: list[str], resources: list[str], condition: Mapping[str, Any] | None = None) -> Statement:
    statement = {"Sid": f"{OURS}{sid}", "Effect": "Deny", "Principal": "*", "Action": actions, "Resource": resources}
    return {**statement, **(condition or {})}


def _remaining(operator: str, days: int) -> Mapping[str, Any]:
    return {"Condition": {operator: {"s3:object-lock-remaining-retention-days": str(days)}}}


def differences(policy: Policy, bucket: str, found: Configuration) -> list[Difference]:
    """What `apply` would change, part by part."""
    return [
        *_versioning(found),
        *_default_lock(default_lock(policy), found.default_lock),
        *_lifecycle(lifecycle(policy), found.lifecycle),
        *_statements(statements(policy, bucket), found.statements),
    ]


def _versioning(found: Configuration) -> Iterator[Difference]:
    if not found.versioned:
        yield Difference("versioning", "none", "versions")


def _default_lock(wanted: DefaultLock, has: DefaultLock | None) -> Iterator[Difference]:
    if has != wanted:
        weaker = has is not None and has.mode == Mode.COMPLIANCE != wanted.mode
        shorter = weaker or (has is not None and has.days > wanted.days)
        yield Difference("default lock", str(has or "none"), str(wanted), shorter)


def _lifecycle(wanted: list[Rule], found: list[Rule]) -> Iterator[Difference]:
    has = {str(rule.get("ID", "")): _Expiry.of(rule) for rule in found}
    for rule in wanted:
        must, is_ = _Expiry.of(rule), has.pop(rule["ID"], None)
        unmoved = has.pop(f"{rule['ID']}{UNMOVED}", None)
        if is_ is None and unmoved == replace(must, moves=()):
            if must.moves:
                refused = f"move objects to {must.moved}"
                yield Difference(f"lifecycle {rule['ID']}", str(unmoved), str(must), refused=refused)
        elif must != is_:
            is_ = is_ or unmoved
            shorter = is_ is not None and (is_.days or 0) > (must.days or 0)
            yield Difference(f"lifecycle {rule['ID']}", str(is_ or "none"), str(must), shorter)
    for name, other in has.items():
        yield Difference(f"lifecycle {name}", str(other), "none; the bucket is for the archive alone")


def _statements(wanted: list[Statement], found: list[Statement]) -> Iterator[Difference]:
    has = {str(each.get("Sid", "")): each for each in found if str(each.get("Sid", "")).startswith(OURS)}
    for statement in wanted:
        is_ = has.pop(statement["Sid"], None)
        if is_ is None or _plain(is_) != _plain(statement):
            yield Difference(f"statement {statement['Sid']}", "another one" if is_ else "none", "it")
    for sid in has:
        yield Difference(f"statement {sid}", "it", "none")


@dataclass(frozen=True, slots=True)
class _Expiry:
    """A rule of expiry as far as it matters, however a server writes it."""

    place: str
    enabled: bool
    days: int | None
    noncurrent_days: int | None
    markers: bool
    moves: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, rule: Rule) -> "_Expiry":
        expiration = rule.get("Expiration", {})
        return cls(
            rule.get("Filter", {}).get("Prefix", rule.get("Prefix", "")),
            rule.get("Status") == "Enabled",
            expiration.get("Days"),
            rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays"),
            expiration.get("ExpiredObjectDeleteMarker", False),
            tuple((each.get("Days", 0), each.get("StorageClass", "")) for each in rule.get("Transitions", ())),
        )

    @property
    def moved(self) -> str:
        return ", ".join(f"{storage} after {days} days" for days, storage in self.moves)

    def __str__(self) -> str:
        does = [self.moved] if self.moves else []
        does += [f"a delete marker after {self.days} days"] if self.days else []
        does += [f"hidden versions deleted after {self.noncurrent_days} days"] if self.noncurrent_days else []
        does += ["empty delete markers deleted"] if self.markers else []
        return f"{self.place or 'everything'}: {', '.join(does) or 'nothing'}{'' if self.enabled else ' (disabled)'}"


def _plain(statement: Statement) -> Statement:
    """A server may return a list of one as its only value, and `*` as {"AWS": "*"}."""
    plain = dict(statement)
    for name in ("Action", "Resource"):
        value = plain.get(name)
        plain[name] = sorted([value] if isinstance(value, str) else value or ())
    if plain.get("Principal") in ({"AWS": "*"}, {"AWS": ["*"]}):
        plain["Principal"] = "*"
    plain["Condition"] = {
        operator: {key: [value] if isinstance(value, str) else value for key, value in keys.items()}
        for operator, keys in plain.get("Condition", {}).items()
    }
    return plain
