"""What a person puts back is what it was before it was contradicted."""

import os
import signal

from service import Service
from worker import fork_worker, reap, stop

from billing import database
from billing.states import RecordState
from jobs.road import quarantine


def test_a_disproved_generation_is_disproved_again_after_a_replay(service: Service) -> None:
    """It counts as a rotation and as history, not as answered."""
    capture = service.ask_for_capture()
    service.plan()
    pid = fork_worker(service, "captures", at="send.after:1", do=stop)
    os.waitpid(pid, os.WUNTRACED)
    service.execute(
        "UPDATE billing.idempotency_records SET state = 'disproved', concluded_at = now(), conclusion = 'absent',"
        " lease_until = NULL, fence = fence + 1 WHERE operation_id = :id",
        id=capture,
    )
    service.execute("UPDATE billing.captures SET state = 'captured' WHERE id = :id", id=capture)
    os.kill(pid, signal.SIGCONT)
    assert reap(pid) == 0
    assert service.status(capture).state == "conflict"
    with database.transaction(service.engine) as session:
        quarantine.replay(session, service.work(capture).id, actor="anna", reason="it is the same money")
    assert service.record(capture).state == RecordState.DISPROVED
