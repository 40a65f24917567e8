"""Reads a bucket as a stranger would: boto3 and pyarrow, and not one line of the archive's own code."""

import hashlib
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import boto3
import pyarrow.parquet as pq
from botocore.config import Config

CLASSES = ("admin", "attempt", "capture", "invoice")


@cache
def client(endpoint: str, access_key: str, secret_key: str) -> Any:
    session = boto3.session.Session(access_key, secret_key, region_name="us-east-1")
    return session.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}))


class Outside:
    def __init__(self, endpoint: str, access_key: str, secret_key: str, bucket: str) -> None:
        self.bucket = bucket
        self.s3: Any = client(endpoint, access_key, secret_key)

    def versions(self) -> list[dict[str, Any]]:
        """Everything that is or was in the bucket; there must be no delete marker."""
        found: list[dict[str, Any]] = []
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket):
            assert page.get("DeleteMarkers", []) == []
            found += page.get("Versions", [])
        return found

    def bodies(self) -> dict[str, bytes]:
        """By key, which each has one version only."""
        keys = [version["Key"] for version in self.versions()]
        assert len(keys) == len(set(keys))
        with ThreadPoolExecutor(8) as pool:
            return dict(zip(keys, pool.map(self.body, keys), strict=True))

    def body(self, key: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def facts(self) -> dict[str, list[dict[str, Any]]]:
        """All rows of each class in the order of their numbers, after the chain and every digest were checked."""
        bodies = self.bodies()
        manifests = {key: body for key, body in bodies.items() if key.startswith("manifests/")}
        objects = {key: body for key, body in bodies.items() if key.startswith("v1/")}
        rows = {name: list(chained(name, manifests, objects)) for name in CLASSES}
        assert objects == {}, "objects that no manifest names"
        assert manifests == {}, "manifests that are in no chain"
        return rows


def chained(name: str, manifests: dict[str, bytes], objects: dict[str, bytes]) -> Iterator[dict[str, Any]]:
    previous, number, seq = None, 1, 0
    while body := manifests.pop(f"manifests/v1/{name}/{number:012d}.json", b""):
        # If it is signed, a second line has the signature.
        line = body[: body.index(b"\n") + 1]
        told = json.loads(line)
        assert (told["retention_class"], told["number"], told["previous"]) == (name, number, previous)
        previous, number = hashlib.sha256(line).hexdigest(), number + 1
        if told["key"] is None:
            assert (told["rows"], told["last_seq"]) == (0, seq)
            continue
        data = objects.pop(told["key"])
        assert f"/class={name}/event_date={told['event_date']}/" in told["key"]
        assert hashlib.sha256(data).hexdigest() == told["sha256"]
        rows = pq.read_table(io.BytesIO(data)).to_pylist()
        for row in rows:
            seq += 1
            assert row["archive_seq"] == seq
            assert row["happened_at"].strftime("%Y-%m-%d") == told["event_date"]
            yield row
        assert (told["rows"], told["last_seq"]) == (len(rows), seq)


def in_order(facts: dict[str, list[dict[str, Any]]]) -> None:
    """Within a class an entity's facts have rising versions; over all classes it has 1, 2, 3 … and none twice."""
    of_entity: dict[str, list[int]] = {}
    for rows in facts.values():
        last: dict[str, int] = {}
        for row in rows:
            assert row["entity_version"] > last.get(row["entity_id"], 0), row
            last[row["entity_id"]] = row["entity_version"]
            of_entity.setdefault(row["entity_id"], []).append(row["entity_version"])
    for entity, versions in of_entity.items():
        assert sorted(versions) == list(range(1, len(versions) + 1)), entity
