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
    ],
)
def test_status_is_the_function_and_never_the_module_of_that_name(imports: str) -> None:
    program = f"{imports}\nassert billing.status.__qualname__ == 'status' and callable(billing.status)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=200)
