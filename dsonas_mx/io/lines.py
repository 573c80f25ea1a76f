"""Lines that are printed: for people, or an object of JSON each for programs."""

import json
import time
from typing import Any


def json_line(message: str, **fields: Any) -> str:
    """A line of a log: an object of the time, the message, and what it tells of."""
    stamped = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "message": message, **fields}
    return json.dumps(stamped)
