-- The log, the newest snapshot and the archive of settled tasks. Blobs are files beside the database.

CREATE TABLE log (
    lsn     INTEGER PRIMARY KEY,
    kind    TEXT    NOT NULL,
    task    TEXT,
    at      INTEGER NOT NULL,
    body    BLOB    NOT NULL,
    payload BLOB
);

-- A row of an index ends with the rowid, which is the lsn here: a task's entries come out in order.
CREATE INDEX log_by_task ON log (task) WHERE task IS NOT NULL;

CREATE TABLE snapshot (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    lsn  INTEGER NOT NULL,
    body BLOB    NOT NULL
);

CREATE TABLE archive (
    task       TEXT    PRIMARY KEY NOT NULL,
    scope      TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    settled_at INTEGER NOT NULL,
    body       BLOB    NOT NULL
);

-- Not unique: a key may be used again once the engine has forgotten the task it stood for.
CREATE INDEX archive_by_key ON archive (scope, key, settled_at, task);
CREATE INDEX archive_by_time ON archive (settled_at, task);
