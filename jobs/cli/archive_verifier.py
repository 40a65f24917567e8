"""`billing archive verifier`: the file with which a stranger verifies the archive."""

from jobs.cli.output import AsJson, print_error, print_json


def verifier(as_json: AsJson = False) -> None:
    """Print verify.py, a file of 200 lines with which an auditor verifies the archive without us.

    It shares no code with this service and asks only S3. Its SHA-256 goes to standard error: give it to the auditor on
    another way than the file. With --json it prints both. docs/finance/verify.md is the auditor's page.

    \b
    Examples:
      billing archive verifier > verify.py
      python verify.py BUCKET --key signing-key.pem --heads heads/*.json
    """
    from hashlib import sha256
    from importlib.resources import files

    source = files("archive.verifying").joinpath("verify.py").read_text(encoding="utf-8")
    digest = sha256(source.encode()).hexdigest()
    if as_json:
        print_json({"name": "verify.py", "sha256": digest, "source": source})
    else:
        # As it is: a byte more or less would be another file.
        print(source, end="", flush=True)
        print_error(f"verify.py, sha256 {digest}")
