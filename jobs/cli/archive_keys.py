"""`billing archive keys` and `billing archive key new`: the keys that sign the archive's manifests."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.output import Actor, AsJson, Reason, clock, print_json, print_line, print_table

if TYPE_CHECKING:
    from archive.signing.public_key import PublicKey
    from archive.writing.batches import KeyUse

NOT_SIGNED = "manifests are not signed: `billing archive key new` makes a key, and archivers need BILLING_SIGNING_KEY"

key = typer.Typer(no_args_is_help=True, help="The private key that signs manifests.")


def keys(as_json: AsJson = False) -> None:
    """List the keys that signed manifests, since which manifest of each class, and print the public keys.

    Give ids and public keys to the auditor by hand, once: everybody who can write to the bucket can put a key there.
    With them, `billing archive verify --expect-key` and verify.py accept no other signature. A key that was replaced
    stays in the list, because older manifests are checked with it.

    \b
    Examples:
      billing archive keys
      billing archive keys --json
    """
    from archive.signing import keyring
    from archive.writing import batches
    from jobs.cli.opening import opened
    from jobs.process import buckets
    from jobs.process.patience import patiently

    with opened() as runtime, buckets.opened(runtime.settings) as store:
        store.check(runtime.settings.environment)
        uses = patiently(runtime, batches.key_uses)
        known = keyring.read(store)
    if as_json:
        pems = {key_id: known[key_id].pem.decode() if key_id in known else None for key_id in _ids(uses, known)}
        print_json({"used": uses, "public_keys": pems})
        return
    if not known and not uses:
        print_line(NOT_SIGNED)
        return
    if uses:
        shown = [(use.key_id, use.retention_class, use.first, use.last, clock(use.since)) for use in uses]
        print_table("signed", ("key", "class", "from manifest", "to", "since"), shown)
    for key_id in _ids(uses, known):
        print_line()
        if key_id in known:
            print_line(f"key {key_id}, {known[key_id].algorithm}, at {keyring.place(key_id)}")
            for line in known[key_id].pem.decode().splitlines():
                print_line(line)
        else:
            print_line(f"key {key_id} is not in the bucket; its manifests can be checked only by who has a copy of it")


def _ids(uses: "list[KeyUse]", known: "dict[str, PublicKey]") -> list[str]:
    return list(dict.fromkeys([*(use.key_id for use in uses), *sorted(known)]))


@key.command("new")
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key is written.")],
    reason: Reason,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Write a new private key (Ed25519, PEM) to a file that only you can read, and print its id and public key.

    It overwrites nothing. Archivers sign with it when BILLING_SIGNING_KEY refers to it (file:/run/secrets/..., or a
    secret store) and they are restarted. To replace a key do the same with a new one: older manifests stay valid.
    Without a database, `openssl genpkey -algorithm ed25519 -out FILE` makes the same kind of key.

    \b
    Example:
      billing archive key new signing_key.pem --reason "the first key, OPS-9"
    """
    from archive.errors import NotWritten
    from archive.files import write_new
    from archive.signing.ed25519 import Ed25519Signer, new_private_key

    pem = new_private_key()
    signer = Ed25519Signer.read(pem)
    if file.exists():
        raise NotWritten(f"{file} exists, and a key is never overwritten; name another file")
    with acting("archive key new", actor, reason) as act, act.outside(about=f"key_{signer.key_id}"):
        write_new("FILE", file, pem.encode(), only_for_us=True)
    if as_json:
        print_json({"file": str(file), "key_id": signer.key_id, "public_key": signer.pem.decode()})
        return
    print_line(f"{file} holds the new private key {signer.key_id}; nobody else may read it")
    print_line(f"set BILLING_SIGNING_KEY=file:{file.absolute()} for the archivers, and restart them")
    for line in signer.pem.decode().splitlines():
        print_line(line)
