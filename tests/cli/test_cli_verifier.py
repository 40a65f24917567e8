"""`billing archive verifier`: the file that an auditor is handed."""

import hashlib
from importlib.resources import files


def test_the_file_is_printed_byte_by_byte_and_its_digest_beside_it(run):
    file = files("archive.verifying").joinpath("verify.py").read_bytes()
    digest = hashlib.sha256(file).hexdigest()
    ran = run("archive", "verifier")
    assert (ran.status, ran.out.encode()) == (0, file)
    assert ran.err == f"verify.py, sha256 {digest}\n"
    told = {"name": "verify.py", "sha256": digest, "source": file.decode()}
    assert run("archive", "verifier", "--json").json == told
