"""Whether the tracking server in this container serves: its /health, and a search, which alone asks the database.

Standard library only. Ends 0 if both answered well, else 1 with one line. With authentication it logs in as the
administrator that MLFLOW_AUTH_ADMIN_USERNAME and MLFLOW_AUTH_ADMIN_PASSWORD name.
"""

import base64
import http.client
import json
import os
import sys

TIMEOUT_S = 5.0
SEARCH = "/api/2.0/mlflow/experiments/search"


def ask(method: str, path: str, body: bytes | None = None) -> str:
    """Why a request did not go well; empty if it did."""
    headers = {"Content-Type": "application/json"}
    user, password = (os.environ.get(f"MLFLOW_AUTH_ADMIN_{part}") for part in ("USERNAME", "PASSWORD"))
    if user and password:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("MLFLOW_PORT", "5000")), timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{path}: {error or type(error).__name__}"
    finally:
        connection.close()
    return "" if answer.status == http.client.OK else f"{path}: answered {answer.status}"


def main() -> int:
    """The exit code."""
    trouble = ask("GET", "/health") or ask("POST", SEARCH, json.dumps({"max_results": 1}).encode())
    if trouble:
        sys.stderr.write(trouble + "\n")
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
