"""What a coordinator holds, and the work of a step, both counted: what grows is seen without a clock."""

import sys
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from types import FunctionType
from typing import Any

_ATOMS = (str, bytes, int, float, type(None), Enum, type, FunctionType)


def held(root: Any) -> Counter[str]:
    """Return how many entries all containers have that are reached from an object, by the way that leads to them."""
    lengths: Counter[str] = Counter()
    seen: set[int] = set()
    ahead = [("", root)]
    while ahead:
        path, item = ahead.pop()
        if isinstance(item, _ATOMS) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            lengths[path] += len(item)
            ahead += ((f"{path}[]", part) for pair in item.items() for part in pair)
        elif isinstance(item, (list, tuple, set, frozenset, deque)):
            lengths[path] += len(item)
            ahead += ((f"{path}[]", part) for part in item)
        else:
            slots = (getattr(kind, "__slots__", ()) for kind in type(item).__mro__)
            names = {name for named in slots for name in ((named,) if isinstance(named, str) else named)}
            names |= vars(item).keys() if hasattr(item, "__dict__") else set()
            ahead += ((f"{path}.{name}", getattr(item, name)) for name in sorted(names) if hasattr(item, name))
    return lengths


def work(call: Callable[[], object]) -> int:
    """Call something, and return how many instructions of Python that took."""
    count = 0

    def trace(frame: Any, event: str, arg: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count
