"""Keeps other web sites away from Locust's web interface, which answers every origin and has no login of its own.

A page of a foreign origin must neither start a test nor read a number: requests with a foreign ``Origin`` are refused,
and so are those that name a host which is not this one (a foreign name that resolves to this address).
"""

import ipaddress
import socket
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask, Response, request

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_FORBIDDEN = 403
_CORS = "access-control-"


def is_ours(host: str, names: Collection[str]) -> bool:
    """Whether a ``Host`` header names this server: by address, as localhost, or by one of ``names``."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in {"localhost", *names}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_same(origin: str | None, host: str) -> bool:
    """Whether a request comes from a page of this server, or from no page at all."""
    if origin is None:
        return True
    return urlsplit(origin).netloc == host


def guard(app: Flask, web_host: str) -> None:
    """Refuse foreign requests from now on, and let no foreign page read or frame an answer."""
    names = {socket.gethostname(), *([web_host] if web_host else [])}

    @app.before_request
    def refuse() -> Response | None:
        if not is_ours(request.host, names):
            return Response("this host name is not ours\n", _FORBIDDEN, mimetype="text/plain")
        if not is_same(request.headers.get("Origin"), request.host):
            return Response("requests of other web sites are refused\n", _FORBIDDEN, mimetype="text/plain")
        return None

    @app.after_request
    def close(response: Response) -> Response:
        response.headers["X-Frame-Options"] = "SAMEORIGIN"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    open_to_all = app.wsgi_app

    def ours_only(environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
        """Outside of Flask, since Locust's own CORS would add its headers again after `close`."""

        def start(status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
            kept = [(name, value) for name, value in headers if not name.lower().startswith(_CORS)]
            return start_response(status, kept, error)

        return open_to_all(environ, start)

    app.wsgi_app = ours_only  # type: ignore[method-assign]
