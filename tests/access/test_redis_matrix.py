"""Who may run which command in Redis: every user of the aclfile, on a real Valkey that was started with it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis
from cases import case
from redis.exceptions import NoPermissionError, ResponseError

from jobs.access import credentials
from jobs.access.kinds import KINDS, redis_rule
from jobs.local.servers import Valkey
from jobs.local.supervisor import Supervisor

OURS, THEIRS = "billing-test:rq3", "billing-production:rq3"
USERS = [name for name, kind in KINDS.items() if kind.redis is not None]


@dataclass(frozen=True)
class Try:
    command: str
    may: frozenset[str]

    def run_by(self, client: "redis.Redis") -> bool:
        """Whether it may be run. What else goes wrong is raised."""
        try:
            client.execute_command(*self.command.split())
        except NoPermissionError:
            return False
        except ResponseError as error:
            if "ACL failure in script" in str(error):
                return False
            raise
        return True


def one(command: str, may: str = "") -> Try:
    return Try(command, frozenset(may.split()))


TRIES = [
    # What ringing, hearing and looking take.
    one("PING", "relay worker operator"),
    one("INFO server", "relay worker operator"),
    one("CLIENT SETNAME me", "relay worker operator"),
    one("GET billing:stamp", "relay worker operator"),
    one("SET billing:stamp test NX", "relay worker"),
    one(f"LLEN {OURS}:queue:captures", "relay worker operator"),
    one(f"SADD {OURS}:queues captures", "relay worker"),
    one(f"HSET {OURS}:job:1 status queued", "relay worker"),
    one(f"RPUSH {OURS}:queue:captures 1", "relay worker"),
    one(f"HGETALL {OURS}:job:1", "worker operator"),
    one(f"LMOVE {OURS}:queue:captures {OURS}:intermediate LEFT RIGHT", "worker"),
    one(f"LRANGE {OURS}:queue:captures 0 -1", "worker operator"),
    one(f"ZADD {OURS}:wip:captures 1 1", "worker"),
    one(f"DEL {OURS}:job:1", "worker"),
    one(f"EVAL return(redis.call('get','{OURS}:x')) 0", "worker"),
    # The limits of accounts: workers share them, operators read them.
    one("EVAL return(redis.call('hset',KEYS[1],'rate','1')) 1 billing-test:limits:own", "worker"),
    one("HSET billing-test:limits:own rate 1", "relay worker"),
    one("HGETALL billing-test:limits:own", "worker operator"),
    one("ZRANGE billing-test:limits 0 -1", "worker operator"),
    one("EVAL return(redis.call('hset',KEYS[1],'rate','1')) 1 billing-production:limits:own"),
    # Another environment's keys, and anybody else's.
    one(f"LLEN {THEIRS}:queue:captures"),
    one(f"RPUSH {THEIRS}:queue:captures 1"),
    one(f"HGETALL {THEIRS}:job:1"),
    one("GET session:1"),
    one("SET session:1 x"),
    one(f"COPY session:1 {OURS}:x"),
    one("EVAL return(redis.call('get','session:1')) 0"),
    # What would hurt everybody.
    one("FLUSHALL"),
    one("FLUSHDB"),
    one("KEYS *"),
    one("CONFIG GET *"),
    one("CONFIG SET maxmemory 0"),
    one("ACL LIST"),
    one("ACL SETUSER me on"),
    one("CLIENT LIST"),
    one("CLIENT KILL TYPE pubsub"),
    one("SLOWLOG GET"),
    one("SAVE"),
    one("SWAPDB 0 1"),
    one("REPLICAOF NO ONE"),
    one("SORT session:list"),
    one("PUBLISH rq:pubsub:1 stop-worker"),
    one(f"PUBLISH {OURS}:pubsub:1 stop-worker"),
]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Valkey, dict[str, str]]]:
    """A server of its own with the users of the environment `test`, and where each finds it."""
    secrets = tmp_path_factory.mktemp("redis") / "secrets"
    with Supervisor() as supervisor:
        server = Valkey(supervisor, durable=False, environment={})
        server.start()
        list(credentials.for_redis(secrets, "127.0.0.1", server.port, "test"))
        server.add_users((secrets / "redis.acl").read_text())
        urls = {name: (secrets / f"{name}_redis_url").read_text() for name in USERS}
        yield server, {**urls, "administrator": server.url, "nobody": f"redis://127.0.0.1:{server.port}/0"}


@pytest.fixture(scope="module")
def clients(valkey):
    _, urls = valkey
    # RESP2 says no more at the beginning than what is tried.
    clients = {name: redis.Redis.from_url(url, protocol=2) for name, url in urls.items()}
    yield clients
    for client in clients.values():
        client.close()


@pytest.mark.parametrize("user", USERS)
def test_a_user_may_do_what_its_row_says_and_nothing_else(clients, user):
    for attempt in TRIES:
        clients["administrator"].rpush("session:list", "1")
        clients["administrator"].rpush(f"{OURS}:queue:captures", "1")
        try:
            with case(attempt.command):
                assert attempt.run_by(clients[user]) is (user in attempt.may)
        finally:
            clients["administrator"].flushall()


def test_an_administrator_may_do_all_of_it(clients):
    """The control."""
    for attempt in TRIES:
        clients["administrator"].rpush("session:list", "1")
        with case(attempt.command):
            assert attempt.run_by(clients["administrator"])
        clients["administrator"].flushall()


def test_without_a_password_one_may_only_ask_whether_the_server_lives(clients):
    for attempt in TRIES:
        with case(attempt.command):
            assert attempt.run_by(clients["nobody"]) is (attempt.command == "PING")


@pytest.mark.parametrize("rule", ["+flushall", "~*", "&*"])
def test_one_right_too_many_is_noticed_by_the_matrix(clients, rule):
    """The control of the control: the same tries, after somebody has loosened the worker's rule."""
    administrator = clients["administrator"]
    administrator.execute_command("ACL", "SETUSER", "billing_worker", rule)
    try:
        surprising = [
            attempt for attempt in TRIES if attempt.run_by(clients["worker"]) is not ("worker" in attempt.may)
        ]
        assert surprising
    finally:
        administrator.acl_load()


def test_each_line_of_the_aclfile_can_be_given_to_a_server_that_has_none(clients, valkey, tmp_path):
    """As docs/access.md says: `user NAME RULES` are the arguments of ACL SETUSER."""
    list(credentials.for_redis(tmp_path / "secrets", "127.0.0.1", valkey[0].port, "staging"))
    for line in (tmp_path / "secrets" / "redis.acl").read_text().splitlines()[1:]:
        clients["administrator"].execute_command("ACL", "SETUSER", *line.split()[1:])
    with redis.Redis.from_url((tmp_path / "secrets" / "relay_redis_url").read_text()) as relay:
        relay.set("billing-staging:x", "1")
        with pytest.raises(NoPermissionError):
            relay.set(f"{OURS}:x", "1")
    clients["administrator"].acl_load()
    clients["administrator"].flushall()


def test_the_aclfile_holds_no_password(valkey, tmp_path):
    list(credentials.for_redis(tmp_path / "secrets", "127.0.0.1", 6379, "test"))
    lines = (tmp_path / "secrets" / "redis.acl").read_text()
    for name in USERS:
        assert (
            redis.connection.parse_url((tmp_path / "secrets" / f"{name}_redis_url").read_text())["password"]
            not in lines
        )
        assert redis_rule(KINDS[name], "test") in lines
