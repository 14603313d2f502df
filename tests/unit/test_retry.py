import math

from bench import retry


def test_pauses_as_mlflows_client_makes_them() -> None:
    pauses = [retry.pause_s(attempt) for attempt in range(1, 11)]
    assert pauses[0] == 0.0
    for attempts, pause in enumerate(pauses[1:], start=2):
        base = 2.0**attempts
        assert pause == 120 if base >= 120 else base <= pause <= base + 1


def test_no_pause_is_endless() -> None:
    assert all(math.isfinite(retry.pause_s(n)) and retry.pause_s(n) <= 120 for n in (50, 500))
