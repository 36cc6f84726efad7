-- Closed conflicts are archived as settled tasks are. They refer to large byte strings in the same way.

CREATE TABLE conflicts (
    conflict TEXT    PRIMARY KEY NOT NULL,
    lsn      INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    object   TEXT    NOT NULL,
    tasks    TEXT    NOT NULL,
    body     BLOB    NOT NULL,
    blobs    BLOB    NOT NULL
);

-- One index for every filter but that for a task.
CREATE INDEX conflicts_by_lsn ON conflicts (lsn, kind, object);

CREATE TABLE conflict_tasks (
    task TEXT    NOT NULL,
    lsn  INTEGER NOT NULL,
    PRIMARY KEY (task, lsn)
) WITHOUT ROWID;
