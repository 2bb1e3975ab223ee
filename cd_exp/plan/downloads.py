"""How large a download is, as far as its server says."""

import os

PATIENCE = 4.0


def size_of(address: str) -> int | None:
    """Bytes that a server announces for an address; None where it does not, or cannot be reached."""
    import requests

    if os.environ.get("HF_HUB_OFFLINE"):
        return None
    try:
        answer = requests.head(address, allow_redirects=True, timeout=PATIENCE, headers={"Accept-Encoding": "identity"})
        return int(answer.headers["content-length"]) if answer.ok else None
    except (requests.RequestException, KeyError, ValueError):
        return None
