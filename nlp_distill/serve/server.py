"""The socket and the process: bind early, serve, and leave when asked, with every request answered."""

import errno
import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from data_augment.errors import InputError

GRACE_SECONDS = 30  # that requests in flight get when the service is asked to stop


def bind(host: str, port: int) -> socket.socket:
    """A socket that owns the address and does not listen yet, so that who comes too early is refused at once.

    Args:
        host: a name or an address.
        port: 0 for any free one.

    Raises:
        InputError: if there is no such host, or the port is taken or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise InputError(f"--host is {host!r}, which names no machine; give 127.0.0.1 or 0.0.0.0") from None
    own = socket.socket(family, kind, protocol)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port just left may be taken again at once
    with refusals(own, host, port):
        own.bind(address)
    return own


@contextmanager
def refusals(own: socket.socket, host: str, port: int) -> Iterator[None]:
    """Say in one line why an address cannot be had, and close the socket."""
    try:
        yield
    except OSError as error:
        own.close()
        if error.errno == errno.EADDRINUSE:
            reason = "is in use; give another --port, or 0 for any free one"
        elif error.errno == errno.EACCES:
            reason = "is not allowed to this user; give a --port of 1024 or more"
        elif error.errno == errno.EADDRNOTAVAIL:
            reason = "is no address of this machine; give --host 127.0.0.1 or 0.0.0.0"
        else:
            raise
        raise InputError(f"{host} port {port} {reason}") from error


def describe_address(own: socket.socket) -> str:
    """The socket's URL."""
    host, port = own.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(own: socket.socket) -> bool:
    """Whether only this machine reaches the socket."""
    return ipaddress.ip_address(own.getsockname()[0].partition("%")[0]).is_loopback


def serve(app: Any, own: socket.socket, on_ready: Callable[[], None] = lambda: None) -> None:
    """Answer until SIGTERM or SIGINT; requests that have arrived by then are answered first.

    Args:
        app: an ASGI application.
        own: what :func:`bind` returned; it is closed at the end.
        on_ready: called when connections are accepted.

    Raises:
        InputError: if another process has begun to listen at the address since it was bound.
    """
    server = uvicorn.Server(configure(app))
    host, port = own.getsockname()[:2]
    with refusals(own, host, port):
        own.listen(server.config.backlog)

    def leave(*_: Any) -> None:
        """For a signal before uvicorn listens to them, and for the one that it raises again when it has stopped."""
        server.should_exit = True

    with handled_signals(leave):
        on_ready()
        server.run(sockets=[own])


def configure(app: Any) -> uvicorn.Config:
    """uvicorn without its access log, which would tell nothing new, and without its name in every answer."""
    return uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


@contextmanager
def handled_signals(handler: Callable[..., Any]) -> Iterator[None]:
    """SIGINT and SIGTERM go to ``handler`` meanwhile."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
