"""Where a tracking server is reached, and with which login: a plain value, for users and probes alike."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Site:
    """A tracking server. ``url`` has no slash at its end; ``headers`` hold the login, if there is one.

    ``counted`` says that it is ours, and names the database errors behind each answer in its header.
    """

    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    counted: bool = False
