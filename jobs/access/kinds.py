"""The kinds of process, and what each may do in Redis and in S3. For Postgres see `grants`.

An attacker who takes over a process can do what its kind may, and nothing else. Each kind has a login of its own on
each server that it needs, and none where it needs none:

    application   asks, and reads the status of its requests; the caller of `billing.request_capture`
    operator      an operator's terminal: switches, quarantine, doctor, and all rights of application and reader
    relay         plans facts into work, and rings
    worker        calls Stripe, and settles its answers
    archiver      marks facts, and writes them to S3
    web           takes Stripe's webhooks: writes events into the inbox, and may do nothing else
    reader        finance and dashboards: reads, without keys, request bodies, stored answers and descriptions

More logins exist: the database's owner, for migrations; in S3 `documents`, of the workers of that queue, who have the
login `worker` elsewhere; and in S3 three that are used by hand and seldom, with an operator's login in Postgres:
`setup` makes the archive's bucket and gives it its rules, `holder` sets and lifts legal holds, and `raiser` raises
locks to COMPLIANCE, for which S3 wants the right to bypass them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archive.format.layout import DOCUMENTS
from jobs.rq.bells import STAMP, key_prefix


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of process. `redis` is None for kinds that do not use Redis."""

    name: str
    redis: str | None = None
    """The commands of its ACL rule. The keys are the same for all kinds, and none may use a channel."""
    only_reads_redis: bool = False

    @property
    def role(self) -> str:
        """Its group role in Postgres. Groups exist in the whole cluster; their rights are granted in each database."""
        return f"billing_{self.name}"


_CONNECT = "+@connection -@dangerous +client|setname +client|info +info"

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("application"),
        Kind("operator", f"+@read {_CONNECT}", only_reads_redis=True),
        # What stamping and ringing need (RQ 3.0.0). It cannot read a bell.
        Kind("relay", f"{_CONNECT} +multi +exec +get +set +llen +hset +sadd +rpush"),
        # RQ's worker uses 34 commands, some from scripts. A command that could harm others is in @dangerous, or needs
        # their keys.
        Kind("worker", "+@all -@dangerous +client|setname +client|info +info"),
        Kind("archiver"),
        Kind("web"),
        Kind("reader"),
    )
}


def redis_rule(kind: Kind, environment: str) -> str:
    """What the kind may do in the Redis of this environment, as ACL SETUSER and an aclfile take it. Needs Redis 7."""
    mark = "%R~" if kind.only_reads_redis else "~"
    return f"resetkeys resetchannels -@all {kind.redis} {mark}{redis_keys(environment)} {mark}{STAMP}"


def redis_keys(environment: str) -> str:
    """The pattern of every key of this environment, of any version of RQ."""
    return f"{key_prefix(environment).partition(':')[0]}:*"


@dataclass(frozen=True, slots=True)
class _Allow:
    actions: Sequence[str]
    below: str = ""
    """Only for objects whose keys begin with this. If it is empty: for the bucket and all its objects."""


_CHECK_BUCKET = ("s3:GetBucketTagging", "s3:GetBucketObjectLockConfiguration")
_READ_RULES = ("s3:GetBucketVersioning", "s3:GetLifecycleConfiguration", "s3:GetBucketPolicy")
_READ = _Allow(
    (
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:GetObjectRetention",
        "s3:GetObjectLegalHold",
        "s3:ListBucket",
        *_CHECK_BUCKET,
    )
)
_PROBE = _Allow(("s3:PutObject", "s3:PutObjectRetention", "s3:DeleteObjectVersion"), below="probes/")

_POLICIES: Mapping[str, Sequence[_Allow]] = {
    "setup": (
        _Allow(
            (
                "s3:CreateBucket",
                "s3:PutBucketObjectLockConfiguration",
                "s3:PutBucketTagging",
                "s3:PutBucketVersioning",
                "s3:PutLifecycleConfiguration",
                "s3:PutBucketPolicy",
                *_CHECK_BUCKET,
                *_READ_RULES,
            )
        ),
        # It tries what the bucket does, and whether it obeys its new policy.
        _Allow(("s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention"), below="probes/"),
        _Allow(("s3:ListBucketVersions",)),
        _PROBE,
    ),
    # It writes each object with its lock. It may neither delete, nor shorten a lock, nor bypass one.
    "archiver": (_READ, _Allow(("s3:PutObject", "s3:PutObjectRetention"))),
    # It stores documents below their own prefix, and reads back what it stored: nothing else of the archive.
    "documents": (
        _Allow(
            (
                "s3:PutObject",
                "s3:PutObjectRetention",
                "s3:GetObject",
                "s3:GetObjectVersion",
                "s3:GetObjectRetention",
            ),
            below=DOCUMENTS,
        ),
        _Allow(_CHECK_BUCKET),
    ),
    # A verification searches for other versions and delete markers.
    "reader": (_READ, _Allow(("s3:ListBucketVersions",))),
    # The doctor tries to delete a locked version. It needs that right, or a refusal would prove nothing.
    "operator": (
        _READ,
        _Allow(("s3:ListBucketVersions", *_READ_RULES)),
        _PROBE,
    ),
    "holder": (_READ, _Allow(("s3:PutObjectLegalHold",))),
    # The one login that may go around a lock: used once, and then taken away.
    "raiser": (_READ, _Allow(("s3:PutObjectRetention", "s3:BypassGovernanceRetention"))),
}
S3_POLICIES = tuple(_POLICIES)
S3_KINDS = tuple(name for name in _POLICIES if name != "raiser")
"""Those for which `billing access generate` makes keys. Of `raiser` only the policy exists: its keys are made by hand
when they are needed, and removed afterwards."""


def s3_policy(name: str, bucket: str = "*", kms_key: str | None = None) -> dict[str, Any]:
    """The IAM policy of a kind, or of `setup`, for one bucket or for all. SeaweedFS takes the same. Raises KeyError.

    `kms_key`: the ARN of the key in KMS that encrypts the objects, if one does.
    """
    whole = f"arn:aws:s3:::{bucket}"
    statements = [
        {
            "Effect": "Allow",
            "Action": list(allow.actions),
            "Resource": [f"{whole}/{allow.below}*"] if allow.below else [whole, f"{whole}/*"],
        }
        for allow in _POLICIES[name]
    ]
    if kms_key is not None:
        writes = any("s3:PutObject" in allow.actions for allow in _POLICIES[name])
        actions = ["kms:Decrypt", *(["kms:GenerateDataKey"] if writes else [])]
        statements.append({"Effect": "Allow", "Action": actions, "Resource": [kms_key]})
    return {"Version": "2012-10-17", "Statement": statements}
