"""The protocol floor: nouns, messages, transition tables, codec and session. Pure; nothing here does I/O."""
