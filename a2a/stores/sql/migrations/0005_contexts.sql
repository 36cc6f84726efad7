-- Idle contexts are archived as settled tasks are. They refer to large byte strings in the same way.

CREATE TABLE contexts (
    context_id TEXT    PRIMARY KEY NOT NULL,
    lsn        INTEGER NOT NULL,
    body       BLOB    NOT NULL,
    blobs      BLOB    NOT NULL
);
