"""Downloads that are only named: a plan says what a run would fetch, and fetches nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cd_exp.errors import InputError

_WITHHELD: ContextVar[bool] = ContextVar("withheld", default=False)


class ToDownload(InputError):
    """Something that is not on this machine and would be downloaded."""

    def __init__(self, name: str, address: str) -> None:
        super().__init__(f"{name} is not on this machine and would be downloaded from {address}")
        self.name, self.address = name, address


@contextmanager
def downloads_withheld() -> Iterator[None]:
    """In this block whatever would be downloaded is raised as `ToDownload` instead."""
    token = _WITHHELD.set(True)
    try:
        yield
    finally:
        _WITHHELD.reset(token)


def refuse_download(name: str, address: str) -> None:
    """Raise `ToDownload` where downloads are withheld."""
    if _WITHHELD.get():
        raise ToDownload(name, address)
