"""What `import billing` offers is there in whatever order its rooms are imported."""

import subprocess
import sys

ORDERS = (
    "import billing",
    "import billing.status, billing",
    "from billing.status import Status; import billing",
    "from billing.explain import explain; import billing",
    "import billing, importlib; importlib.import_module('billing.status')",
    "import billing.changes, billing",
)
# Each order in a process of its own, which has the libraries already: they take most of the time.
PROGRAM = """
import os, sys
import psycopg, sqlalchemy.orm, stripe
assert "billing" not in sys.modules
for order in sys.argv[1:]:
    child = os.fork()
    if not child:
        exec(order)
        assert [f.__qualname__ for f in (billing.status, billing.changes)] == ['status', 'changes']
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"not after: {order}")
"""


def test_status_and_changes_are_the_functions_and_never_the_modules_of_those_names() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, *ORDERS], check=True, timeout=200)
