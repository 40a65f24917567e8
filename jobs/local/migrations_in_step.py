"""`python -m jobs.local.migrations_in_step`: do the migrations lead to the tables and grants in the code?

Runs every migration on a fresh Postgres, twice, and compares the result with the models.
"""

import sys

from alembic.util.exc import CommandError

from jobs.access import migrate
from jobs.local.postgres import Postgres
from jobs.local.supervisor import LocalServerError, Supervisor


def main() -> int:
    try:
        with Supervisor() as supervisor:
            # Never DATABASE_URL: a check must not migrate a database in use.
            postgres = Postgres(supervisor, durable=False, environment={})
            postgres.start()
            for _ in range(2):
                migrate.upgrade(postgres.url, environment="test", livemode=False)
            migrate.check(postgres.url)
            wrong = migrate.wrong_grants(postgres.url)
    except (LocalServerError, CommandError) as error:
        print(f"migrations are not in step: {error}", file=sys.stderr)
        return 1
    if wrong:
        print(f"migrations are not in step: {'; '.join(wrong)}", file=sys.stderr)
        return 1
    print("migrations are in step with the tables and the grants")
    return 0


if __name__ == "__main__":
    sys.exit(main())
