"""What a coordinator holds, and the work of a step, both counted: what grows is seen without a clock."""

import gc
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
    was_on = gc.isenabled()
    gc.disable()  # what is collected may run Python of its own, of other tests as well
    try:
        return _traced(call) if sys.version_info < (3, 12) else _monitored(call)
    finally:
        if was_on:
            gc.enable()


def _traced(call: Callable[[], object]) -> int:
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


def _monitored(call: Callable[[], object]) -> int:
    """Count by PEP 669: from 3.12 on a trace misses what a function does the first time it is traced."""
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
    count = 0

    def instruction(code: object, offset: int) -> None:
        nonlocal count
        count += 1

    tool, event = monitoring.PROFILER_ID, monitoring.events.INSTRUCTION
    monitoring.use_tool_id(tool, "growth")
    try:
        monitoring.register_callback(tool, event, instruction)
        monitoring.set_events(tool, event)
        call()
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)
    return count
