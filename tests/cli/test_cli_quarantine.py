"""What `billing quarantine` prints, and what it leaves behind."""

from service import Service


def test_show_prints_the_errors_the_calls_and_the_code_of_each_failure(run, service: Service) -> None:
    service.standin.add_fault("other_amount", path="/capture$", times=1)
    capture = service.ask_for_capture()
    service.plan()
    service.work_off()
    (request_id,) = service.record(capture).request_ids
    work_id = service.work(capture).id
    shown = run("quarantine", "show", work_id)
    assert shown.out.startswith(capture)
    failures = shown.out.partition("\nfailures\n")[2]
    assert "quarantined: conflict: " in failures
    assert f"capture g1 was conflict, 1 send, 1 unanswered, Stripe request ids: {request_id}" in failures
    (failed,) = run("quarantine", "show", work_id, "--json").json["failures"]
    assert failed["calls"][0]["request_ids"] == [request_id]
    assert failed["code_version"] in failures
