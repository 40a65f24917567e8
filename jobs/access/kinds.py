"""The kinds of process, and what each may do in Redis and in S3. For Postgres see `grants`.

A process that is taken over can do what its kind may, and nothing else. Each kind has a login of its own on each
server that it needs, and none where it needs none:

    application   asks, and reads how what it asked for stands; the caller of `billing.request_capture`
    operator      a person's terminal: switches, quarantine, doctor, and whatever application and reader may
    relay         plans facts into work, and rings
    worker        calls Stripe, and settles what it answers
    archiver      marks facts, and writes them to S3
    reader        finance and dashboards: reads, without keys, request bodies, stored answers and descriptions

Beside them stand the database's owner, who migrates, and `setup`, whose keys make the archive's bucket.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.rq.bells import STAMP, key_prefix


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of process. `redis` is None for those that never go there."""

    name: str
    redis: str | None = None
    """The commands of its ACL rule. The keys are the same for all of them, and no channel is open to any."""
    only_reads_redis: bool = False

    @property
    def role(self) -> str:
        """Its group role in Postgres. Groups belong to the whole cluster; what they may is granted in each database."""
        return f"billing_{self.name}"


_CONNECT = "+@connection -@dangerous +client|setname +client|info +info"

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("application"),
        Kind("operator", f"+@read {_CONNECT}", only_reads_redis=True),
        # What stamping and ringing take (RQ 3.0.0); it cannot even read a bell.
        Kind("relay", f"{_CONNECT} +multi +exec +get +set +llen +hset +sadd +rpush"),
        # RQ's worker uses 34 commands, some from scripts. What could hurt others is dangerous, or needs their keys.
        Kind("worker", "+@all -@dangerous +client|setname +client|info +info"),
        Kind("archiver"),
        Kind("reader"),
    )
}


def redis_rule(kind: Kind, environment: str) -> str:
    """What the kind may do in the Redis of this environment, as ACL SETUSER and an aclfile take it. Needs Redis 7."""
    mark = "%R~" if kind.only_reads_redis else "~"
    return f"resetkeys resetchannels -@all {kind.redis} {mark}{redis_keys(environment)} {mark}{STAMP}"


def redis_keys(environment: str) -> str:
    """The pattern of every key of this environment, whichever RQ wrote it."""
    return f"{key_prefix(environment).partition(':')[0]}:*"


@dataclass(frozen=True, slots=True)
class _Allow:
    actions: Sequence[str]
    below: str = ""
    """Only of objects whose keys begin with this; where it is empty, of the bucket and of all its objects."""


_CHECK_BUCKET = ("s3:GetBucketTagging", "s3:GetBucketObjectLockConfiguration")
_READ = _Allow(("s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention", "s3:ListBucket", *_CHECK_BUCKET))

_POLICIES: Mapping[str, Sequence[_Allow]] = {
    "setup": (
        _Allow(
            (
                "s3:CreateBucket",
                "s3:PutBucketObjectLockConfiguration",
                "s3:PutBucketTagging",
                "s3:PutBucketVersioning",
                *_CHECK_BUCKET,
            )
        ),
    ),
    # Retention: a lock comes with the object. Neither deleting nor shortening, and no way around a lock.
    "archiver": (_READ, _Allow(("s3:PutObject", "s3:PutObjectRetention"))),
    # Other versions and delete markers are what a verification looks for.
    "reader": (_READ, _Allow(("s3:ListBucketVersions",))),
    # The doctor tries to delete a locked version. It must be allowed to, or the refusal would prove nothing.
    "operator": (
        _READ,
        _Allow(("s3:ListBucketVersions",)),
        _Allow(("s3:PutObject", "s3:PutObjectRetention", "s3:DeleteObjectVersion"), below="probes/"),
    ),
}
S3_KINDS = tuple(_POLICIES)


def s3_policy(name: str, bucket: str = "*") -> dict[str, Any]:
    """The IAM policy of a kind, or of `setup`, for one bucket or for all. SeaweedFS takes the same. Raises KeyError."""
    whole = f"arn:aws:s3:::{bucket}"
    statements = [
        {
            "Effect": "Allow",
            "Action": list(allow.actions),
            "Resource": [f"{whole}/{allow.below}*"] if allow.below else [whole, f"{whole}/*"],
        }
        for allow in _POLICIES[name]
    ]
    return {"Version": "2012-10-17", "Statement": statements}
