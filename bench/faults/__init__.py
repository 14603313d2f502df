"""Faults: what is broken on purpose while a load runs, and what it cost.

`spec` says what a scenario may ask for and `rules` what makes no sense, `possible` why a store can't have it here, and
`course` which trials are left. In a `trial`, `actions` and `sessions` do it and `injection` keeps its time beside the
load; `proxy` is the network between a load and its server, and `power` models a power cut under SQLite. Judged is in
`bench.judge`: what a load shows in `faults`, whether it met the fault in `effect`, what was promised in `claims`.
"""
