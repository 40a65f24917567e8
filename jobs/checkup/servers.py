"""Python, Stripe's key, Redis and Stripe."""

import platform
import sys

from redis.exceptions import RedisError

from billing.gateway import Budget, Request, Response, boot_clock
from jobs.checkup.findings import Finding, Level, first_line
from jobs.config.secrets import SecretError, check_stripe_key
from jobs.config.sources import SettingsError
from jobs.process.runtime import Runtime
from jobs.process.service import ServiceProcess
from jobs.rq import bells

PYTHON_LEAST = (3, 11)


def python() -> Finding:
    if sys.version_info < PYTHON_LEAST:
        return Finding("python", Level.FAIL, platform.python_version(), "Python 3.11 or later is needed")
    return Finding("python", Level.OK, platform.python_version())


def stripe_key(runtime: ServiceProcess) -> Finding:
    settings = runtime.settings
    try:
        check_stripe_key(settings.stripe_key, settings)
    except SecretError as error:
        return Finding("stripe key", Level.FAIL, "cannot be used", str(error))
    mode = "live" if settings.livemode else "test"
    return Finding("stripe key", Level.OK, f"{mode} mode, from {settings.stripe_key.shown}")


def ignored_parameters(runtime: Runtime, setting: str) -> str:
    names = runtime.ignored.get(setting)
    return f"; ignored in {setting}, for other clients: {', '.join(names)}" if names else ""


def redis(runtime: ServiceProcess) -> Finding:
    try:
        information = runtime.redis.info("server")
        message = f"version {information.get('valkey_version') or information.get('redis_version')}"
        bells.check_stamp(runtime.redis, runtime.settings.environment)
        stamped = runtime.redis.get(bells.STAMP)
    except bells.WrongEnvironment as error:
        return Finding("redis", Level.FAIL, "this Redis is not ours", str(error))
    except (SettingsError, SecretError) as error:
        return Finding("redis", Level.FAIL, "cannot be tried", str(error))
    except RedisError as error:
        return Finding("redis", Level.FAIL, first_line(error), "start it, or correct REDIS_URL")
    if stamped is None:
        return Finding("redis", Level.WARN, f"{message}, without a stamp", "start a relay: it stamps an empty Redis")
    return Finding("redis", Level.OK, message + ignored_parameters(runtime, "REDIS_URL"))


def stripe(runtime: ServiceProcess) -> Finding:
    where = runtime.settings.stripe_api_base
    now = boot_clock()
    request = Request("GET", "/v1/account", account=runtime.settings.stripe_account)
    answer = runtime.gateway(connections=1).send(request, Budget(now + 5, now + 10))
    if not isinstance(answer, Response):
        return Finding(
            "stripe", Level.FAIL, f"{where}: {answer.why}", "correct STRIPE_API_BASE, or allow connections to it"
        )
    if answer.status != 200 or answer.data is None:
        fix = "BILLING_STRIPE_KEY is refused: use a valid one" if answer.status in (401, 403) else "see Stripe's status"
        return Finding("stripe", Level.FAIL, f"{where} answers {answer.status}", fix)
    return Finding("stripe", Level.OK, f"{where}, account {answer.data.get('id')}")
