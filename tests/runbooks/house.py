"""A whole service to make incidents in: servers of its own, and one process of each kind."""

from dataclasses import dataclass, field
from pathlib import Path

from service import Service, eventually

from jobs.local.stack import Stack
from jobs.local.supervisor import Child
from jobs.process.health import State, health_of

COMMANDS = {"relay": ("relay",), "worker-captures": ("worker", "captures"), "archiver": ("archive", "run")}


@dataclass
class House:
    """Servers of its own, and one process of each kind, each with a login of its kind; no invoices.

    `service` is who asks and looks, with the owner's login.
    """

    stack: Stack
    stripe_key: Path
    service: Service
    processes: dict[str, Child] = field(default_factory=dict)

    def start(self, role: str) -> None:
        self.processes[role] = self.stack.spawn(*COMMANDS[role])

    def restart(self, *roles: str) -> None:
        """What a container engine does with a process that does not end when it is asked."""
        for role in roles:
            self.processes[role].kill()
            self.start(role)

    def health(self, role: str) -> State:
        return health_of(role, str(self.stack.servers.directory / "health")).state

    def ask(self, count: int = 3) -> list[str]:
        return [self.service.ask_for_capture(intent) for intent in self.service.intents(count)]

    def settled(self, captures: list[str]) -> bool:
        return all(self.service.status(each).state == "captured" for each in captures)

    def took_each_once(self, captures: list[str]) -> None:
        """Nothing was lost, and nothing was taken twice."""
        eventually(lambda: self.settled(captures), "all are captured")
        assert [self.service.captured(each) for each in captures] == [{1999: 1}] * len(captures)

    def count(self, query: str) -> int:
        with self.service.engine.connect() as connection:
            return int(connection.exec_driver_sql(query).scalar_one())

    def has_logged(self, role: str, event: str) -> bool:
        return f'"event": "{event}"' in self.processes[role].output()


def build(directory: Path) -> House:
    key = directory / "stripe_key"
    key.touch(mode=0o600)
    key.write_text("sk_test_local")
    # Most incidents begin with a new house, and end with new processes.
    stack = Stack(given={}, more={"BILLING_STRIPE_KEY": f"file:{key}"}, fork=True)
    stack.__enter__()
    house = House(stack, key, Service(stack.servers, stack.servers.environment["DATABASE_URL"]))
    house.service.make_no_ticks()
    for role in COMMANDS:
        house.start(role)
    return house


def tear_down(house: House) -> None:
    house.service.close()
    house.stack.stop()
