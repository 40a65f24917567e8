"""`billing access`: secrets for every kind of process, and its login in Postgres."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.output import RUNNING, Actor, AsJson, Reason, counted, print_json, print_line

if TYPE_CHECKING:
    from jobs.access.credentials import Written

Directory = Annotated[Path, typer.Argument(metavar="DIRECTORY", help="The directory with one file for each secret.")]


def add_to(app: typer.Typer) -> None:
    access = typer.Typer(no_args_is_help=True, help="Who may do what: secrets and logins for each kind of process.")
    for command in (generate, apply, policy):
        access.command()(command)
    app.add_typer(access, name="access", rich_help_panel=RUNNING)


def generate(
    directory: Directory,
    postgres: Annotated[
        str, typer.Option(metavar="HOST:PORT/DATABASE", help="Where the processes find Postgres.")
    ] = "postgres:5432/billing",
    redis: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where Redis or Valkey is.")] = "valkey:6379",
    environment: Annotated[
        str,
        typer.Option(envvar="BILLING_ENVIRONMENT", help="The environment whose keys in Redis they may use."),
    ] = "development",
    as_json: AsJson = False,
) -> None:
    """Make the secrets of every kind of process: passwords, URLs and keys, a file for each. Safe to repeat.

    Existing files stay; missing ones are made. Only you can enter the directory. It asks no server: start Valkey
    with redis.acl and SeaweedFS with s3.json, and run `billing access apply` for Postgres.

    \b
    Examples:
      billing access generate secrets
      billing access generate secrets --postgres db.internal:5432/shop --redis cache.internal:6379 \\
          --environment production
    """
    from typing import get_args

    from jobs.access import credentials
    from jobs.config.settings import Settings

    environments = get_args(Settings.model_fields["environment"].annotation)
    if environment not in environments:
        raise typer.BadParameter(f"--environment must be one of {', '.join(environments)}")
    host, port, database = credentials.place("--postgres", postgres, credentials.AT_POSTGRES)
    redis_host, redis_port = credentials.place("--redis", redis, credentials.AT_REDIS)
    written: list[Written] = [
        *credentials.for_owner(directory, host, int(port), database),
        *credentials.for_postgres(directory, host, int(port), database),
        *credentials.for_redis(directory, redis_host, int(redis_port), environment),
        *credentials.for_s3(directory),
    ]
    if as_json:
        print_json({"directory": str(directory), "environment": environment, "files": written})
        return
    new = [each.name for each in written if each.new]
    print_line(
        f"{directory}: {counted(len(new), 'file is', 'files are')} new, {len(written) - len(new)} were there and stay"
    )
    for name in new:
        print_line(f"  {name}")


def apply(directory: Directory, reason: Reason, actor: Actor = "", as_json: AsJson = False) -> None:
    """Create a login in Postgres for each kind of process, or set its password from its file. Safe to repeat.

    It needs the owner's DATABASE_URL, and `billing migrate` before it. It sends a SCRAM verifier, never a password.

    \b
    Example:
      DATABASE_URL=file:$PWD/secrets/owner_database_url \\
          billing access apply secrets --reason "a new worker password, OPS-8"
    """
    from jobs.access import credentials

    with acting("access apply", actor, reason) as act:
        applied = act.inside(
            lambda session: credentials.apply(session.connection(), directory),
            about=str(act.runtime.engine.url.database),
            count=len,
        )
    if as_json:
        print_json(applied)
        return
    for each in applied:
        how = "is new" if each.new else "has the password of its file"
        print_line(f"{each.login} {how}; it has the rights of {each.kind}")


def policy(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="archiver, documents, holder, operator, raiser, reader or setup")
    ],
    bucket: Annotated[str, typer.Option(help="The archive's bucket.")],
    kms_key: Annotated[
        str | None, typer.Option(metavar="ARN", help="The key of BILLING_S3_KMS_KEY, if KMS encrypts the objects.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the policy of a kind of process for AWS IAM. Always JSON.

    \b
    Example:
      billing access policy archiver --bucket evidence
      billing access policy archiver --bucket evidence --kms-key arn:aws:kms:eu-central-1:123456789012:key/1234abcd
    """
    from jobs.access.kinds import S3_POLICIES, s3_policy

    if kind not in S3_POLICIES:
        raise typer.BadParameter(
            f"{kind!r} has no policy; choose one of: {', '.join(sorted(S3_POLICIES))}", param_hint="KIND"
        )
    print_json(s3_policy(kind, bucket, kms_key))
