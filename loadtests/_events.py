"""What Locust calls: everything that Trackbench adds to it hangs on these events."""

import ctypes
import signal
import socket
import sys
from typing import Any, NoReturn

import gevent
import locust
import locust.runners
from locust.env import Environment
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from bench.errors import BadInput, ExitCode
from loadtests import _arguments, _shape_classes, _shapes, _tab
from loadtests._conductor import DEFAULT_USER, Conductor
from loadtests._crew import Alone, Crew
from loadtests._host import Gone
from loadtests._member import Member
from loadtests._merge import fine_buckets
from loadtests._workers import Workers

_events: Any = locust.events
_MASTER_GONE_S = 20  # Locust's own minute is long for a load that nobody wants any more
_PR_SET_PDEATHSIG = 1
_DEFAULTS: dict[str, Any] = {  # here and nowhere else: Locust reads a project's file only in its own folder
    "web_host": "127.0.0.1",
    "master_bind_host": "127.0.0.1",
    "class_picker": True,
    "num_users": 20,
    "spawn_rate": 100.0,
    "stop_timeout": "10s",
    "enable_rebalancing": True,
}


def install() -> None:
    """Listen to Locust's events. Starts nothing: ``--processes`` forks after the locustfile was read."""
    _events.init_command_line_parser.add_listener(_add_arguments)
    _events.init.add_listener(_init)
    kind: Any = Environment
    kind.create_master_runner = _create_master_runner


_create = Environment.create_master_runner


def _create_master_runner(environment: Environment, master_bind_host: str, master_bind_port: int) -> MasterRunner:
    """Locust's own, once the port is known to be free: Locust answers a busy one with a traceback."""
    try:
        _check_port(
            "" if master_bind_host == "*" else master_bind_host, master_bind_port, "master", "--master-bind-port"
        )
    except BadInput as error:
        _leave(environment, str(error), ExitCode.BAD_INPUT)
    return _create(environment, master_bind_host, master_bind_port)


def _add_arguments(parser: Any, **_: Any) -> None:
    """Ours, and what Locust's own are where nobody sets them."""
    parser.set_defaults(**_DEFAULTS)
    _arguments.add(parser)


def _init(environment: Environment, **_: Any) -> None:
    fine_buckets()
    try:
        if isinstance(environment.runner, LocalRunner | MasterRunner):
            _lead(environment, environment.runner)
        elif isinstance(environment.runner, WorkerRunner):
            _follow(environment, environment.runner)
    except BadInput as error:
        _leave(environment, str(error), ExitCode.BAD_INPUT)
    except Gone as error:
        _leave(environment, str(error), ExitCode.INCONCLUSIVE)
    except KeyboardInterrupt:  # while servers are brought up
        _leave(environment, "interrupted before the test began", ExitCode.INTERRUPTED)


def _leave(environment: Environment, why: str, code: ExitCode) -> NoReturn:
    sys.stderr.write(f"trackbench: {why}\n")
    if environment.runner is not None:
        environment.runner.quit()
    sys.exit(code)


def _follow(environment: Environment, runner: WorkerRunner) -> None:
    options: Any = environment.parsed_options
    locust.runners.MASTER_HEARTBEAT_TIMEOUT = _MASTER_GONE_S
    if options.processes:
        _end_with_parent()
    member = Member(environment, runner)
    events: Any = environment.events
    events.test_stopping.add_listener(member.end)
    events.quitting.add_listener(member.quitting)


def _lead(environment: Environment, runner: LocalRunner | MasterRunner) -> None:
    options: Any = environment.parsed_options
    events: Any = environment.events
    if environment.host:
        environment.host = options.host = _arguments.without_login(environment.host)
    if not options.user_classes:
        environment.user_classes = [one for one in environment.user_classes if one.__name__ == DEFAULT_USER]
    shapes = _shape_classes.instances()
    for shape in shapes.values():
        shape.runner = runner
    environment.available_shape_classes = dict(shapes)
    if options.shape != "none":
        _shapes.check(options.shape, options.run_time)
        environment.shape_class = shapes[options.shape]
    if isinstance(runner, MasterRunner):
        workers = Workers(runner)
        events.worker_connect.add_listener(lambda client_id, **_: gevent.spawn(workers.enlist, client_id))
        crew: Crew = workers
    else:
        crew = Alone(environment)
    conductor = Conductor(environment, crew)
    if conductor.unattended:
        environment.process_exit_code = ExitCode.INCONCLUSIVE  # until something is judged
    events.test_start.add_listener(conductor.test_start)
    events.spawning_complete.add_listener(conductor.spawning_complete)
    events.test_stopping.add_listener(conductor.test_stopping)
    events.quitting.add_listener(conductor.quitting)
    if environment.web_ui is not None:
        _check_port(options.web_host, options.web_port, "web", "--web-port")
        _tab.install(environment.web_ui, conductor)
    if conductor.unattended:
        conductor.prepare(options.num_users or 1)


def _end_with_parent() -> None:
    """A worker that ``--processes`` forked ends when the master does, also when that is killed; Linux only."""
    if (prctl := getattr(ctypes.CDLL(None), "prctl", None)) is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _check_port(host: str, port: int, what: str, option: str) -> None:
    """Refuse a port that is taken; Locust itself would find out when all is up."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadInput(
                f"{what} port {port} on {host or 'all interfaces'}: {error.strerror}; give another one with {option}"
            ) from error
