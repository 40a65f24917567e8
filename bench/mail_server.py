"""A mail server with TLS that fails as real ones do, by a seed: one thread, for `bench.emails`.

It speaks as much of SMTP (RFC 5321) as a client needs that sends one message over a connection, with TLS from the first
byte. It remembers how often it got each message whole, by its Message-ID, and what it did to whom.
"""

import asyncio
import random
import re
import ssl
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

FAULTS: Mapping[str, float] = {
    "cut when connected": 0.01,
    "451 to MAIL": 0.01,
    "450 to RCPT": 0.02,
    "452 to DATA": 0.01,
    "cut in the message": 0.01,
    "451 to the message": 0.01,
    "taken, and the answer lost": 0.01,
    "not taken, and no answer": 0.005,
}
"""What happens to how many connections."""
_MESSAGE_ID = re.compile(rb"^Message-ID:\s*<([^>]+)>", re.MULTILINE | re.IGNORECASE)


def make_certificate(folder: Path) -> Path:
    """A key and a certificate for 127.0.0.1, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "mail.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


class FaultyMailServer:
    """`came`: how often each message came whole, by what stands in its Message-ID before the @. `met`: how often each
    fault happened. With a `seed`, which connection meets which fault depends on nothing but their order."""

    def __init__(self, certificate: Path, seed: int, faults: Mapping[str, float] = FAULTS) -> None:
        self.came: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self._rng, self._faults = random.Random(seed), faults  # noqa: S311 - a choice that can be repeated
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mail", daemon=True)
        self.port = 0

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(30)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def be_well(self) -> None:
        self._faults = {}

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context, backlog=500)
        server = self._loop.run_until_complete(serving)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    def _fault(self) -> str:
        drawn, faults = self._rng.random(), self._faults
        for name, share in faults.items():
            if drawn < share:
                self.met[name] += 1
                return name
            drawn -= share
        return ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            await self._session(reader, writer, self._fault())
        writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: str) -> None:
        if fault == "cut when connected":
            return
        writer.write(b"220 mail.example.com ESMTP\r\n")
        while line := await reader.readline():
            command = line[:4].upper()
            if command == b"DATA" and fault != "452 to DATA":
                await self._message(reader, writer, fault)
                if fault in _CUTS:
                    return
                continue
            if command == b"QUIT":
                return
            wrong = fault if fault.endswith(f" to {command.decode('ascii', 'replace')}") else ""
            writer.write(f"{wrong[:3]} later\r\n".encode() if wrong else b"250 OK\r\n")

    async def _message(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: str) -> None:
        writer.write(b"354 go on\r\n")
        if fault == "cut in the message":
            await reader.readline()
            return
        content = bytearray()
        while (line := await reader.readline()) and line != b".\r\n":
            content += line
        if not line or fault == "not taken, and no answer":
            return
        if fault == "451 to the message":
            writer.write(b"451 later\r\n")
            return
        found = _MESSAGE_ID.search(content)
        self.came[found[1].decode().partition("@")[0] if found else "without an id"] += 1
        if fault != "taken, and the answer lost":
            writer.write(b"250 2.0.0 Ok: queued as 4XyZ1\r\n")


_CUTS = ("cut in the message", "taken, and the answer lost", "not taken, and no answer")
