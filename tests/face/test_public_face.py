"""What `import billing` offers is there in whatever order its rooms are imported."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "imports",
    [
        "import billing",
        "import billing.status, billing",
        "from billing.status import Status; import billing",
        "from billing.explain import explain; import billing",
        "import billing, importlib; importlib.import_module('billing.status')",
        "import billing.changes, billing",
    ],
)
def test_status_and_changes_are_the_functions_and_never_the_modules_of_those_names(imports: str) -> None:
    program = f"{imports}\nassert [f.__qualname__ for f in (billing.status, billing.changes)] == ['status', 'changes']"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=200)
