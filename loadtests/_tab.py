"""The web interface's tab: Locust's table of our rows, our charts and criteria below it, and the finished report."""

import json
import time
from dataclasses import astuple
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, request, send_file
from locust.util.timespan import parse_timespan
from locust.web import WebUI
from werkzeug.datastructures import ImmutableMultiDict, MultiDict

from bench.errors import BadInput
from bench.host import Order
from bench.judge.statistics import MIN_SAMPLES, QUANTILES
from bench.scenario import rate_label
from loadtests import _shapes
from loadtests._arguments import without_login
from loadtests._conductor import DEFAULT_USER, FORM_FIELDS, Conductor
from loadtests._guard import guard
from loadtests._host import Gone
from loadtests._live import Operations, Totals
from loadtests._session import Session
from loadtests._standing import at_the_end, so_far

_FOLDER = Path(__file__).parent / "_web"
_KEY = "trackbench"
_LOCUSTS = frozenset({"user_count", "spawn_rate", "run_time", "user_classes", "shape_class", "profile"})
_COLUMNS = {
    "store": "Store",
    "operation": "Operation",
    "ops_per_s": "ops/s",
    "metrics_per_s": "metrics/s",
    "p50": "p50 (ms)",
    "p95": "p95 (ms)",
    "p99": "p99 (ms)",
    "p999": "p99.9 (ms)",
    "max": "max (ms)",
    "ok": "ok",
    "failed": "failed",
    "unknown": "unknown",
    "lock_errors": "lock errors",
}
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def install(web_ui: WebUI, conductor: Conductor) -> None:
    """Add the tab, its pages and its checks to Locust's web interface."""
    app = web_ui.app
    assert app is not None
    options: Any = conductor.environment.parsed_options
    guard(app, options.web_host)
    web_ui.template_args |= {
        "extended_tabs": [{"title": "Trackbench", "key": _KEY}],
        "extended_tables": [{"key": _KEY, "structure": [{"key": k, "title": t} for k, t in _COLUMNS.items()]}],
    }
    app.register_blueprint(_pages(web_ui, conductor, f"{options.web_base_path}/{_KEY}"))
    app.before_request(lambda: _swarm(web_ui, conductor))
    app.after_request(lambda response: _add(response, options.web_base_path, conductor))
    _adjust(web_ui)


def _adjust(web_ui: WebUI) -> None:
    """What Locust decides otherwise: no choice is one user class, shapes use the common options, no host is none."""
    ui: Any = web_ui
    update_arguments, update_classes = ui.update_template_args, ui._update_user_classes

    def arguments() -> None:
        update_arguments()
        host = without_login(web_ui.environment.host or "")  # not a user class's, which stands for a server of ours
        web_ui.template_args |= {
            "shape_use_common_options": True,
            "host": host,
            "missing_host_warning": False,
            "override_host_warning": False,
        }
        for user in (web_ui.template_args["users"] or {}).values():
            user["host"] = None

    def classes(chosen: dict[str, Any]) -> None:
        available = web_ui.environment.available_user_classes or {}
        update_classes(_chosen(chosen, available))

    ui.update_template_args, ui._update_user_classes = arguments, classes


def _chosen(chosen: dict[str, Any], available: dict[str, Any]) -> dict[str, Any]:
    """Locust's form has every class ticked at first: that is no choice."""
    return {DEFAULT_USER: available[DEFAULT_USER]} if len(chosen) == len(available) else chosen


def _swarm(web_ui: Any, conductor: Conductor) -> Response | None:
    """Before a test begins: everything it needs is brought up, or the form says what is wrong."""
    if request.method != "POST" or not request.path.endswith("/swarm"):
        return None
    request.form = allowed(request.form)  # Locust would take every option that it knows
    if conductor.is_running:
        return None
    environment = web_ui.environment
    available: dict[str, Any] = dict(environment.available_user_classes or {})
    chosen = {name: available[name] for name in request.form.getlist("user_classes") if name in available}
    options: Any = environment.parsed_options
    try:
        if chosen:
            web_ui._update_user_classes(chosen)
        shape = request.form.get("shape_class", "Default")
        if shape != "Default":
            _shapes.check(shape, parse_timespan(request.form.get("run_time") or "0") or options.run_time)
        conductor.prepare(int(request.form.get("user_count") or 1), dict(request.form))
    except (BadInput, Gone, ValueError) as error:
        return jsonify({"success": False, "message": str(error), "host": environment.host})
    return None


def allowed(form: MultiDict[str, str]) -> ImmutableMultiDict[str, str]:
    """The fields of a form that may say what is run; where results go is no business of a web page."""
    return ImmutableMultiDict([one for one in form.items(multi=True) if one[0] in _LOCUSTS or one[0] in FORM_FIELDS])


def _add(response: Response, base: str, conductor: Conductor) -> Response:
    """Put our rows into Locust's numbers, and our script into its page."""
    if request.path == f"{base}/stats/requests" and response.is_json:
        told = response.get_json()
        told["extended_stats"] = [{"key": _KEY, "data": rows(conductor.session)}]
        response.set_data(json.dumps(told))
    elif request.path == f"{base}/" and response.mimetype == "text/html":
        ours = (
            f'<link rel="stylesheet" href="{base}/{_KEY}/static/panel.css">'
            f'<script type="module" src="{base}/{_KEY}/static/mount.js?user={DEFAULT_USER}"></script>'
        )
        response.set_data(response.get_data(as_text=True).replace("</body>", f"{ours}</body>"))
    return response


def _pages(web_ui: Any, conductor: Conductor, prefix: str) -> Blueprint:
    pages = Blueprint(_KEY, __name__, url_prefix=prefix, static_folder=str(_FOLDER), static_url_path="/static")

    def panel() -> Response:
        page = Response((_FOLDER / "panel.html").read_text(encoding="utf-8"), mimetype="text/html")
        page.headers["Content-Security-Policy"] = _POLICY
        return page

    def data() -> Response:
        since = request.args.get("since", 0, type=int)
        return jsonify(state(conductor, max(0, since)))

    def report() -> Response:
        session = conductor.session
        folder = session.result.folder if session is not None and session.result is not None else None
        if folder is None or not (folder / "report.html").exists():
            return Response("no test has ended yet\n", 404, mimetype="text/plain")
        page = send_file(folder / "report.html", max_age=0)
        page.headers["Content-Security-Policy"] = _REPORT_POLICY
        return page

    for path, view in (("/", panel), ("/data", data), ("/report", report)):
        pages.add_url_rule(path, view.__name__, web_ui.auth_required_if_enabled(view))
    return pages


def rows(session: Session | None) -> list[dict[str, str]]:
    """The table: a row for each operation, and one for all."""
    if session is None or session.live is None:
        return []
    live = session.live
    totals, seconds = live.shown, live.seconds(time.time())
    each = [_row(session.order.store, name, one, seconds) for name, one in sorted(totals.operations.items())]
    whole = _row(session.order.store, "all", totals.all, seconds)
    return [*each, {**whole, "lock_errors": _locks(totals)}]


def _row(store: str, name: str, one: Operations, seconds: float) -> dict[str, str]:
    def at(name: str) -> str:
        value = one.latency.percentile_ms(QUANTILES[name]) if one.ok >= MIN_SAMPLES[name] else None
        return "–" if value is None else f"{min(value, one.max_ns / 1e6):.3f}"

    return {
        "store": store,
        "operation": name,
        "ops_per_s": f"{one.ok / seconds:.1f}",
        "metrics_per_s": f"{one.metrics / seconds:.1f}",
        **{name: at(name) for name in ("p50", "p95", "p99", "p999")},
        "max": f"{one.max_ns / 1e6:.3f}" if one.ok else "–",
        "ok": str(one.ok),
        "failed": str(one.failed),
        "unknown": str(one.unknown),
        "lock_errors": "",
    }


def _level(order: Order) -> str:
    """The load, as a title has it."""
    users = f"{order.users} users"
    return users if order.rate is None else f"{rate_label(order.rate)}, at most {users}"


def _locks(totals: Totals) -> str:
    return ", ".join(f"{label} {n}" for label, n in sorted(totals.lock_errors.items())) or "0"


def state(conductor: Conductor, since: int) -> dict[str, Any]:
    """What the charts and the criteria show; points from second ``since`` on."""
    session = conductor.session
    told: dict[str, Any] = {"lines": list(conductor.lines), "refusal": conductor.refusal, "stage": None}
    if session is None:
        return told
    order, live = session.order, session.live
    told |= {
        "id": id(session),
        "stage": session.stage,
        "title": f"{order.kind} on {order.store}, {'straight into the store' if order.driver == 'direct' else 'HTTP'}, "
        + _level(order),
        "lost": session.lost,
        "rows": rows(session),
        "columns": list(_COLUMNS.items()),  # JSON objects have no order here
        "criteria": [],
        "points": [],
    }
    if live is not None and session.offer is not None:
        now = time.time()
        told["points"] = [astuple(point) for point in live.points(now, since)]
        told["measured_s"] = live.seconds(now) if live.measured_from is not None else None
        told["warmup_until"] = live.measured_from - live.began if live.measured_from is not None else None
        told["criteria"] = [one.told() for one in so_far(session.offer.criteria, live.shown, live.seconds(now))]
    if (result := session.result) is not None:
        told["result"] = {
            "verdict": result.verdict,
            "exit_code": result.exit_code,
            "reason": result.reason,
            "report": result.folder is not None,
        }
        if result.criteria:
            told["criteria"] = [one.told() for one in at_the_end(result.criteria)]
    return told
