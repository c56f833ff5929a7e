"""What Postgres keeps of a password, made here: so the password itself is never sent or logged."""

import base64
import hashlib
import hmac
import secrets
from typing import Final

SCRAM_ROUNDS: Final = 4096
"""As Postgres has it by default."""


def scram_of(password: str, salt: bytes | None = None) -> str:
    """What Postgres keeps of a password. Source: RFC 5803, and `pg_authid.rolpassword`."""
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ROUNDS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    stored, kept, served = (
        base64.b64encode(part).decode()
        for part in (hashlib.sha256(client_key).digest(), salt, server_key)
    )
    return f"SCRAM-SHA-256${SCRAM_ROUNDS}:{kept}${stored}:{served}"
