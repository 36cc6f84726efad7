"""The engine: pure machines. State, message and time come in; a decision goes out. Nothing here does I/O."""
