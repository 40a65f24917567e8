"""RQ is still the RQ that `jobs/rq/overrides.py` was written for. A new version is allowed when tests/rq passes."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from bell_tower import ENVIRONMENT

from jobs.rq import bells

# Every method of RQ that is overridden or called, and the names of its parameters.
SIGNATURES = {
    "Job.__init__": "self id connection serializer",
    "Job.func": "self",
    "Job.restore": "self raw_data",
    "Queue.__init__": ("self name connection default_timeout is_async job_class serializer death_penalty_class kwargs"),
    "Queue.prepare_data": (
        "func args kwargs timeout result_ttl ttl failure_ttl description depends_on job_id at_front meta retry"
        " on_success on_failure on_stopped repeat webhooks"
    ),
    "Queue.enqueue_many": "self job_datas pipeline group_id",
    "Queue.dequeue_any": "queues timeout connection job_class serializer death_penalty_class",
    "SimpleWorker.__init__": (
        "self queues name default_result_ttl connection exception_handlers maintenance_interval"
        " default_worker_ttl worker_ttl job_class queue_class log_job_description job_monitoring_interval"
        " disable_default_exception_handler prepare_for_work serializer work_horse_killed_handler"
    ),
    "SimpleWorker.work": (
        "self burst logging_level date_format log_format max_jobs max_idle_time with_scheduler dequeue_strategy"
    ),
    "SimpleWorker.bootstrap": "self logging_level date_format log_format",
    "SimpleWorker._set_connection": "self connection",
    "SimpleWorker.check_for_suspension": "self burst",
    "SimpleWorker.dequeue_job_and_maintain_ttl": "self timeout max_idle_time",
    "SimpleWorker.execute_job": "self job queue",
    "SimpleWorker.get_heartbeat_ttl": "self job working_time",
    "SimpleWorker.handle_exception": "self job exc_info",
    "SimpleWorker.handle_job_failure": "self job queue started_job_registry exc_string execution",
    "SimpleWorker.heartbeat": "self timeout pipeline",
    "SimpleWorker.maintain_heartbeats": "self job execution",
    "SimpleWorker.perform_job": "self job queue execution",
    "SimpleWorker.prepare_execution": "self job",
    "SimpleWorker.register_death": "self",
    "SimpleWorker.request_stop": "self signum frame",
    "SimpleWorker.run_maintenance_tasks": "self",
    "SimpleWorker.set_state": "self state pipeline",
    "SimpleWorker.subscribe": "self",
    "BaseDeathPenalty.__init__": "self timeout exception kwargs",
    "BaseDeathPenalty.setup_death_penalty": "self",
    "BaseDeathPenalty.cancel_death_penalty": "self",
}


@pytest.fixture(scope="module")
def classes() -> dict[str, type]:
    bells.choose_prefix(ENVIRONMENT)
    from rq import Queue, SimpleWorker
    from rq.job import Job
    from rq.timeouts import BaseDeathPenalty

    return {each.__name__: each for each in (Job, Queue, SimpleWorker, BaseDeathPenalty)}


def test_rq_is_the_version_that_was_read() -> None:
    bells.choose_prefix(ENVIRONMENT)
    from rq.version import VERSION

    assert VERSION == "3.0.0"


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_method_takes_what_it_took(classes: dict[str, type], name: str) -> None:
    owner, method = name.split(".")
    found: Any = inspect.getattr_static(classes[owner], method)
    found = found.fget if isinstance(found, property) else getattr(classes[owner], method)
    assert " ".join(inspect.signature(found).parameters) == SIGNATURES[name]


def test_every_override_is_listed(classes: dict[str, type]) -> None:
    from jobs.rq.overrides import BellJob, NoDeathPenalty, ShiftWorker

    for ours, theirs in (
        (BellJob, "Job"), (ShiftWorker, "SimpleWorker"), (NoDeathPenalty, "BaseDeathPenalty")
    ):  # fmt: skip
        overridden = {
            f"{theirs}.{name}"
            for name, value in vars(ours).items()
            if (inspect.isfunction(value) or isinstance(value, property)) and hasattr(classes[theirs], name)
        }
        assert overridden, ours
        assert overridden <= SIGNATURES.keys()


def test_an_attribute_that_is_set_still_means_something(classes: dict[str, type]) -> None:
    # A renamed one would be set in vain, and RQ's alarm would strike again.
    source = inspect.getsource(classes["SimpleWorker"].__mro__[1])
    for attribute in ("death_penalty_class", "log_result_lifespan", "last_cleaned_at", "_stop_requested"):
        assert f"self.{attribute}" in source
