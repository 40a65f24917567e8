"""Commands that set up and run processes: migrate, relay, worker, up."""

import atexit
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.acting import as_command
from jobs.cli.output import RUNNING, TRYING, Actor, AsJson, counted, print_error, print_json, print_line
from jobs.config import queues


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=TRYING)(up)
    for command in (migrate, relay, worker, serve):
        app.command(rich_help_panel=RUNNING)(command)


def migrate(
    reason: Annotated[
        str | None, typer.Option(help="Why, if it is not the new version itself; kept as a fact.")
    ] = None,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Bring the database to this version's schema and mark it as this environment's. Safe to repeat.

    Only missing migrations run, under one lock. It refuses a database of another environment.

    \b
    Example:
      DATABASE_URL=postgresql://... billing migrate
    """
    from jobs.access import migrate as migrations
    from jobs.cli.opening import open_runtime

    runtime = open_runtime("migrate")
    settings = runtime.settings
    by = as_command(settings, "migrate", actor, reason)
    revision = migrations.upgrade(
        runtime.database_url, environment=settings.environment, livemode=settings.livemode, by=by
    )
    if as_json:
        print_json({"revision": revision, "environment": settings.environment, "livemode": settings.livemode})
    else:
        print_line(f"the database is at revision {revision}, and belongs to {settings.environment}")


def relay() -> None:
    """Run a relay until SIGTERM or Ctrl-C: it plans facts into work, returns work of dead workers, and rings workers.

    Any number of relays may run at once.

    \b
    Example:
      billing relay
    """
    from jobs.cli.complaints import complaint
    from jobs.cli.opening import open_process

    stop = Stop()
    runtime = open_process("relay", logs_too=True)
    try:
        runtime.run_relay(stop.requested, complaint)
    finally:
        runtime.close()


def worker(queue: Annotated[str, typer.Argument(metavar="QUEUE", help=" or ".join(queues.NAMES))]) -> None:
    """Run a worker of one queue. After SIGTERM or Ctrl-C it claims nothing more, settles its calls, and exits with 0.

    One process serves one queue. Run as many as you like, and set BILLING_WORKERS_CAPTURES for the relay.

    \b
    Example:
      billing worker captures
    """
    from jobs.cli.complaints import complaint
    from jobs.cli.opening import open_process

    if queue not in queues.NAMES:
        raise typer.BadParameter(
            f"{queue!r} is not a queue; choose one of: {', '.join(queues.NAMES)}", param_hint="QUEUE"
        )
    stop = Stop()
    runtime = open_process(f"worker-{queue}", logs_too=True)
    try:
        status = runtime.run_worker(queue, stop.requested, complaint)
    finally:
        runtime.close()
    raise typer.Exit(status)


def serve(
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; a proxy on another machine reaches 0.0.0.0.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port to listen on; 0, a free one.")] = 8080,
) -> None:
    """Take Stripe's webhooks until SIGTERM or Ctrl-C: check each signature, and put the event into the inbox.

    It answers POST /webhooks/stripe, GET /healthz (the process answers) and GET /readyz (the database takes events). It
    needs the extra `web`, a login of the kind `web`, and BILLING_WEBHOOK_SECRETS; TLS ends at a proxy in front of it. A
    relay finds which operations an event is about. Any number of these may run: docs/moves/webhooks.md.

    \b
    Example:
      billing serve --port 8080
    """
    try:
        from jobs.web.serving import serve as run
    except ImportError:
        from jobs.config.sources import SettingsError

        raise SettingsError("billing serve needs the extra `web`: pip install 'billing-reference[web]'") from None
    from jobs.cli.complaints import complaint
    from jobs.cli.opening import open_runtime

    stop = Stop()
    runtime = open_runtime("web", logs_too=True)
    try:
        run(runtime, host, port, stop.requested, complaint, lambda address: print_line(f"listening on {address}"))
    finally:
        runtime.close()


def up(
    as_json: AsJson = False,
    durable: Annotated[
        bool, typer.Option("--durable", help="Write to disk as in production; slower, and still deleted at the end.")
    ] = False,
) -> None:
    """Start everything on this machine: Postgres, Valkey, S3, a stand-in for Stripe, a relay, workers, an archiver, and
    `billing serve`, to which the stand-in sends its webhooks.

    It runs until Ctrl-C, and leaves nothing. DATABASE_URL, REDIS_URL, S3_ENDPOINT_URL and STRIPE_API_BASE each replace
    one of the servers by your own; with your own database but not your own S3, nothing is archived. It prints the
    exports that another terminal needs for the other commands.

    \b
    Example:
      billing up
    \b
      # in another terminal, after the lines that it printed:
      billing standin authorize 1999 USD
      billing doctor
    """
    import os

    from jobs.config.sources import SettingsError
    from jobs.local.checkout import is_standin
    from jobs.local.stack import Stack

    more = {}
    if os.environ.get("STRIPE_API_BASE"):
        # That may be Stripe itself: it needs a key of its own, and the time that real answers take.
        more = {"BILLING_STRIPE_KEY": os.environ.get("BILLING_STRIPE_KEY", ""), "BILLING_TIMING": "production"}
        if not more["BILLING_STRIPE_KEY"]:
            raise SettingsError("BILLING_STRIPE_KEY is not set, and STRIPE_API_BASE is; set both or neither")
    with Stack(durable=durable, more=more) as stack:
        stack.start_processes(events=("*",))
        environment = stack.environment
        # The other variables say all of this, and the file is removed at the end.
        del environment["BILLING_CONFIG"]
        if as_json:
            print_json({"environment": environment, "processes": {c.name: c.pid for c in stack.processes}})
        else:
            for name, value in environment.items():
                print_line(f"export {name}='{value}'")
            if is_standin(environment["STRIPE_API_BASE"]):
                print_line("")
                print_line("# and then, for example:")
                for line in _EXAMPLES:
                    print_line(line.replace("billing ", f"{_program()} "))
            count = counted(len(stack.processes), "process of the service runs", "processes of the service run")
            print_error("")
            print_error(f"{count}; their logs: {stack.servers.directory}")
            print_error("paste the lines above into another terminal. Ctrl-C ends everything.")
        stop, ended = Stop(), None
        while not stop.requested() and ended is None:
            ended = next((child for child in stack.processes if child.poll() is not None), None)
            time.sleep(0.2)
        if ended is not None:
            print_error(f"{ended.name} ended with status {ended.poll()}:")
            for line in ended.output()[-2000:].splitlines():
                print_error(line)
    if not as_json:
        ours = [name for name, value in environment.items() if os.environ.get(name) != value]
        print_line("")
        print_line("# everything is removed; in a terminal where you pasted the lines above, run:")
        print_line(f"unset {' '.join(ours)}")
    if ended is not None:
        raise typer.Exit(1)


_EXAMPLES = (
    "pi=$(billing standin authorize 1999 USD)",
    "billing capture --payment-intent $pi --amount 1999 --currency USD --request-id order-1 --wait",
    "billing refund --payment-intent $pi --amount 500 --currency USD --request-id order-1-discount --wait",
    'billing invoice issue --customer $(billing standin customer) --line "3 seats=4500" --currency EUR \\',
    "    --days-until-due 14 --request-id seats-1 --wait",
    "billing explain order-1",
)


def _program() -> str:
    """`billing` if the shell finds it, else its whole path in the virtual environment that runs us."""
    return "billing" if shutil.which("billing") else str(Path(sys.executable).with_name("billing"))


class Stop:
    """SIGTERM and Ctrl-C become a flag; a second one changes nothing, and none does while the process ends.

    No `threading.Event`: a signal that came while its `set` handles another would wait for ever for its lock.
    """

    def __init__(self) -> None:
        self._asked = False
        _on_stop(self._ask)
        # At exit Python resets handlers, and leaves ignored signals ignored: a second one would kill the process then.
        atexit.register(_on_stop, signal.SIG_IGN)

    def requested(self) -> bool:
        return self._asked

    def _ask(self, *_: object) -> None:
        self._asked = True


def _on_stop(handler: Callable[..., object] | signal.Handlers) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)
