"""What Locust calls: everything that Trackbench adds to it hangs on these events."""

import socket
import sys
from typing import Any

import gevent
import locust
from locust.env import Environment
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from bench.errors import BadInput, ExitCode
from loadtests import _arguments, _shape_classes, _shapes, _tab
from loadtests._conductor import DEFAULT_USER, Conductor
from loadtests._crew import Alone, Crew
from loadtests._member import Member
from loadtests._merge import fine_buckets
from loadtests._workers import Workers

_events: Any = locust.events


def install() -> None:
    """Listen to Locust's events. Starts nothing: ``--processes`` forks after the locustfile was read."""
    _events.init_command_line_parser.add_listener(_add_arguments)
    _events.init.add_listener(_init)


def _add_arguments(parser: Any, **_: Any) -> None:
    _arguments.add(parser)


def _init(environment: Environment, **_: Any) -> None:
    fine_buckets()
    try:
        if isinstance(environment.runner, LocalRunner | MasterRunner):
            _lead(environment, environment.runner)
        elif isinstance(environment.runner, WorkerRunner):
            _follow(environment, environment.runner)
    except BadInput as error:
        sys.stderr.write(f"trackbench: {error}\n")
        if environment.runner is not None:
            environment.runner.quit()
        sys.exit(ExitCode.BAD_INPUT)


def _follow(environment: Environment, runner: WorkerRunner) -> None:
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
    events.test_start.add_listener(conductor.test_start)
    events.spawning_complete.add_listener(conductor.spawning_complete)
    events.test_stopping.add_listener(conductor.test_stopping)
    events.quitting.add_listener(conductor.quitting)
    if environment.web_ui is not None:
        _check_port(options.web_host, options.web_port)
        _tab.install(environment.web_ui, conductor)
    if environment.web_ui is None or options.autostart:
        conductor.prepare(options.num_users or 1)


def _check_port(host: str, port: int) -> None:
    """Refuse a port that is taken; Locust itself would find out when all is up."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadInput(
                f"web port {port} on {host or 'all interfaces'}: {error.strerror}; give another one with --web-port"
            ) from error
