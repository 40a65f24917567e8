"""What a capture costs here, compared with the usual alternatives, in one interleaved run: `make bench`.

    make bench                    everything, within 8 minutes; appended to docs/benchmarks.md
    make bench ARGS=--quick       the same with few rounds, within 2 minutes; nothing is written
    make bench ARGS=--json        the numbers for a program, on standard output

Four sides take the same captures from the same scripted provider (`responder`), on the same durable Postgres and the
same Valkey (`jobs.local`):

    ours        a real relay and a real worker, production timing: idempotency record, facts, log lines, everything
    baseline    RQ's fork worker with its imports preloaded, one job per capture (`rq_worker`)
    rival       Huey's threads, the cheapest of the usual queues we know of (`huey_worker`)
    measured    ours with metrics on and scraped, beside ours alone
    floor       threads that do the bare calls, with urllib3 and psycopg, without any queue (`floor_worker`)

Baseline and rival do the same *bare* job (`bare_job`): look at the row, call Stripe's SDK with an idempotency key,
store the answer. They write no record before the call, no facts and no logs, and cannot recover calls of a dead worker.

How it is measured (`measure`). A side's backlog is loaded while it is stopped; then it runs alone, the others are
stopped with SIGSTOP. Throughput counts from the first call's arrival at the provider to the last commit that stores
an answer, by Postgres's own commit timestamps; so does latency, from the caller's commit. CPU is what /proc says about
each process tree, dead children included (`meter`). Machines are noisy: trust ratios, which are taken within a round,
and CPU-milliseconds; every number is the median of its rounds. This folder is not part of the wheel.
"""
