"""Faults: what is broken on purpose while a load runs, and what it cost.

`spec` says what a scenario may ask for, `possible` why a store can't have it here, `actions` does it,
`injection` keeps its time beside the load; `proxy` is the network between a load and its server, and `power` models
a power cut under SQLite. What the store still has to have afterwards is judged in `bench.judge.faults`.
"""
