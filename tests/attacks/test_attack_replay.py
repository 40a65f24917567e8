"""What a person puts back is what it was before it was contradicted."""

import os
import signal

from house import House
from worker import fork_worker, reap, stop

from billing import database
from billing.states import RecordState
from jobs.road import quarantine


def test_a_disproved_generation_is_disproved_again_after_a_replay(house: House) -> None:
    """It counts as a rotation and as history, not as answered."""
    capture = house.ask_for_capture()
    house.plan()
    pid = fork_worker(house, "captures", at="send.after:1", do=stop)
    os.waitpid(pid, os.WUNTRACED)
    house.execute(
        "UPDATE billing.idempotency_records SET state = 'disproved', concluded_at = now(), conclusion = 'absent',"
        " lease_until = NULL, fence = fence + 1 WHERE operation_id = :id",
        id=capture,
    )
    house.execute("UPDATE billing.captures SET state = 'captured' WHERE id = :id", id=capture)
    os.kill(pid, signal.SIGCONT)
    assert reap(pid) == 0
    assert house.status(capture).state == "conflict"
    with database.transaction(house.engine) as session:
        quarantine.replay(session, house.work(capture).id, actor="anna", reason="it is the same money")
    assert house.record(capture).state == RecordState.DISPROVED
