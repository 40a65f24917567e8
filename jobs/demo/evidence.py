"""Acts 5 and 6: what finance and an auditor see of it, and what three sides say of the money."""

import json
import shlex
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from archive.format import sealed
from archive.writing import batches, publishing
from jobs.demo.invoicing import left_behind, show_document
from jobs.demo.stage import Running, Stage
from jobs.process.patience import patiently
from jobs.reconciliation.passes import SETTLE_SHORT


def audit(stage: Stage, invoice: str) -> None:
    """The document of this invoice, a picture, the head of the day, and the verifier that shares no code with us, with
    the public key and that head."""
    stage.title("5. The evidence in S3: for finance, and for an auditor")
    show_document(stage, invoice)
    _wait_until_archived(stage)
    picture = _draw(stage)
    keys, verifier = (stage.begin("archive", each, "--json", kind="reader") for each in ("keys", "verifier"))
    place = stage.stack.servers.directory / "auditor"
    place.mkdir()
    arguments = _publish(stage, place)
    for key_id, pem in _json(keys)["public_keys"].items():
        (place / f"{key_id}.pem").write_text(pem)
        arguments += ["--key", f"{key_id}.pem"]
    (place / "verify.py").write_text(_json(verifier)["source"])
    verdict = stage.stack.verdict(place, arguments)
    if picture is None:
        stage.say("no picture is drawn, because the extra `finance` is not installed")
    else:
        stage.show(picture, "finance: a picture of what was captured")
    stage.say("# an auditor: the verifier is one file that shares no code with us")
    stage.say("$ billing archive verifier > verify.py")
    stage.say(f"$ python verify.py BUCKET {shlex.join(arguments)}")
    for line in verdict.splitlines():
        stage.say(f"  {line}")


def compare(stage: Stage, final_at: float, *since: str) -> None:
    """Reconciliation with Stripe's ledger, and the certificate from three files alone. `final_at`: when the last
    request had ended, by `time.monotonic`. `since`: the option, where the database is older than this run."""
    stage.title("6. Three sides agree: Postgres, Stripe, S3")
    stage.say(
        f"waiting until everything is {SETTLE_SHORT.seconds} s old; in production, nothing is compared for two hours"
    )
    stage.pause(max(0.0, final_at + SETTLE_SHORT.seconds + 1 - time.monotonic()))
    place = stage.stack.servers.directory / "proof"
    stage.hidden = f"{place}/"
    files = {side: str(place / f"{side}.jsonl") for side in ("archive", "stripe", "ours")}

    def export(side: str) -> Running:
        kind = "worker" if side == "stripe" else "reader"
        return stage.begin("export", side, files[side], *since, kind=kind)

    reconciliation = stage.begin("reconcile", "--actor", "demo", *since)
    theirs = [export(side) for side in ("archive", "stripe")]
    stage.show(reconciliation, "our rows, compared with Stripe's own ledger", may_differ=True)
    for each in theirs:
        stage.show(each, only=lambda _: False)
    # The last of the three: what is asked for while the others are written must be in ours.
    stage.show(export("ours"), only=lambda _: False)
    certificate = stage.begin("prove", *files.values(), kind="reader")
    stage.show(certificate, "the three files, compared with the network off", may_differ=True)


def _wait_until_archived(stage: Stage) -> None:
    """Wait until the archiver, which runs all the time, has copied every fact to S3."""

    def archived() -> bool:
        lag = patiently(stage.runtime, batches.lag)
        return not lag.waiting + lag.unplanned

    stage.until(archived, "every fact to be archived")


def _draw(stage: Stage) -> Running | None:
    if find_spec("matplotlib") is None:
        return None
    picture = str(left_behind("captured.png"))
    return stage.begin("archive", "plot", "captured_by_day", "--png", picture, kind="reader")


def _publish(stage: Stage, place: Path) -> list[str]:
    """Hand the newest head of the day to the auditor. Returns the verifier's arguments for it."""
    arguments: list[str] = []
    for _, document in patiently(stage.runtime, publishing.documents):
        heads, signature = sealed.read(document)
        signed = f"signed with key {signature.key_id}" if signature else "not signed"
        newest = ", ".join(f"{name} {number} {digest[:16]}…" for name, (number, digest) in heads["heads"].items())
        stage.say(f"the heads of {heads['date']}, {signed}: {newest}")
        (place / "heads.json").write_bytes(document)
        arguments = ["--heads", "heads.json"]
    return arguments


def _json(running: Running) -> Any:
    running.child.wait()
    return json.loads(running.child.output())
