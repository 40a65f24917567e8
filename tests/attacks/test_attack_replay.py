"""What a person puts back is what it was before it was contradicted."""

import os
import signal

from service import Service
from worker import fork_worker, reap, stop

from billing.states import RecordState


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
    service.relay.round()
    service.work_off()
    assert len(service.posts("/capture")) == 1, "nothing is sent while a person has to decide"
    service.replay(capture)
    assert service.record(capture).state == RecordState.DISPROVED
