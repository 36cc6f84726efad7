-- The log has a row for what was committed together, and not for each entry: half the work, and no index. Large payloads
-- are files beside the database; a row has their SHA-256, one digest behind the other.

ALTER TABLE log RENAME TO log_of_entries;

CREATE TABLE log (
    first INTEGER PRIMARY KEY,
    last  INTEGER NOT NULL,
    body  BLOB    NOT NULL,
    blobs BLOB    NOT NULL
);

-- as_group is a function of ours.
INSERT INTO log SELECT lsn, lsn, as_group(kind, task, at, body, payload), x'' FROM log_of_entries ORDER BY lsn;

DROP TABLE log_of_entries;

-- For the look whether all files are there, which does not read the log.
CREATE INDEX log_by_blobs ON log (blobs) WHERE blobs != x'';

-- What the body of a task refers to by number.
ALTER TABLE archive ADD COLUMN blobs BLOB NOT NULL DEFAULT x'';
