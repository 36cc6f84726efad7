-- The archive is paged by when a task was created, filtered, and its oldest tasks lose their bodies.
-- No version that wrote the archive came before this one: there is nothing to carry over.

DROP TABLE archive;

CREATE TABLE archive (
    task       TEXT    PRIMARY KEY NOT NULL,
    scope      TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    settled_at INTEGER NOT NULL,
    body       BLOB    NOT NULL,
    lsn        INTEGER NOT NULL,
    skill      TEXT    NOT NULL,
    parent     TEXT,
    context_id TEXT    NOT NULL,
    gone       INTEGER NOT NULL DEFAULT 0
);

-- Not unique: a key may be used again once its task is gone.
CREATE INDEX archive_by_key ON archive (scope, key, lsn);

-- One index for every filter: a page that passes few tasks walks this one, and not the bodies.
CREATE INDEX archive_by_lsn ON archive (lsn, state, skill, parent, context_id) WHERE gone = 0;
CREATE INDEX archive_by_time ON archive (settled_at) WHERE gone = 0;
