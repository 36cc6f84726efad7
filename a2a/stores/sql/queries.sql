-- Every statement the SQLite store runs, apart from the schema (`migrations/`).
-- A statement starts at `-- name --`; the line below it says what it does. No STRICT, RETURNING or other syntax newer
-- than SQLite 3.34: that is what some distributions still give a Python 3.11.

-- configure_writer --
-- Make every commit survive a power failure, on macOS too; `limit_wal` follows
PRAGMA synchronous = FULL;
PRAGMA fullfsync = ON;
PRAGMA checkpoint_fullfsync = ON;
PRAGMA journal_size_limit = 67108864;

-- limit_wal --
-- Checkpoint when the log has this many pages; it holds up the next group. A pragma takes no parameters
PRAGMA wal_autocheckpoint = {pages};

-- configure_reader --
-- Keep a connection that only reads from ever writing
PRAGMA query_only = ON;

-- configure_copy --
-- Write a file that is thrown away where it does not come to be whole, and synced where it does
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;

-- set_page_size --
-- Write a payload in few pages: each costs a checksum and four calls of the system, whatever is in it
PRAGMA page_size = 8192;

-- get_page_size --
-- Bytes of a page; a ledger of an older version has 4096
PRAGMA page_size;

-- use_wal --
-- Keep a write-ahead log, so that readers and the writer do not wait for each other; the file remembers it
PRAGMA journal_mode = WAL;

-- set_application --
-- Mark the file as a ledger of ours ("a2aL")
PRAGMA application_id = 1630691660;

-- get_application --
-- Whose file this is
PRAGMA application_id;

-- get_version --
-- The number of the last migration this file has seen
PRAGMA user_version;

-- list_columns --
-- What columns a table has
SELECT name FROM pragma_table_info(?);

-- check_pages --
-- Look for damage in every page; a single row "ok" if there is none
PRAGMA quick_check(3);

-- list_blobs --
-- What files the log names, a row's digests one behind the other
SELECT DISTINCT blobs FROM log WHERE blobs != x'';

-- list_blobs_of_tasks --
-- The same of the archive
SELECT DISTINCT blobs FROM archive WHERE blobs != x'';

-- list_blobs_of_conflicts --
-- The same of the archived conflicts
SELECT DISTINCT blobs FROM conflicts WHERE blobs != x'';

-- list_blobs_of_contexts --
-- The same of the archived contexts
SELECT DISTINCT blobs FROM contexts WHERE blobs != x'';

-- check_log --
-- How many entries there are and which is the last; the two differ when one is missing
SELECT coalesce(sum(last - first + 1), 0), coalesce(max(last), 0) FROM log;

-- check_log_of_entries --
-- The same of a log of an older version, with a row for each entry
SELECT count(*), coalesce(max(lsn), 0) FROM log;

-- find_end --
-- The last entry's position, 0 in an empty log
SELECT coalesce((SELECT last FROM log ORDER BY first DESC LIMIT 1), 0);

-- begin --
-- Start a group; take the write lock at once, not at the first row
BEGIN IMMEDIATE;

-- begin_reading --
-- Have everything read from here on be as it is at the first read
BEGIN;

-- end_reading --
-- Read what is newest again
ROLLBACK;

-- commit --
-- Make a group durable
COMMIT;

-- append_group --
-- Put entries at the end of the log that are committed together
INSERT INTO log (first, last, body, blobs) VALUES (?, ?, ?, ?);

-- read_groups --
-- One page of the log, oldest first, from the row on that has the entry behind a position
SELECT first, last, body, blobs FROM log
WHERE first >= coalesce((SELECT max(first) FROM log WHERE first <= :after + 1), 0) AND first <= :upto
ORDER BY first LIMIT :limit;

-- save_snapshot --
-- Keep a snapshot in the place of the one before
INSERT OR REPLACE INTO snapshot (id, lsn, body) VALUES (1, ?, ?);

-- load_snapshot --
-- The newest snapshot, or no row
SELECT lsn, body FROM snapshot;

-- archive_tasks --
-- Put a settled task into the archive, or replace it there
INSERT OR REPLACE INTO archive
  (task, scope, key, state, settled_at, body, lsn, skill, parent, context_id, dead_letter, blobs)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- keep_keys --
-- Have archived tasks found by a part and the hash of their keys
INSERT OR IGNORE INTO keys (part, hash, task) VALUES (?, ?, ?);

-- move_keys --
-- Put the first keys of parts that are older than one to those of part 0; `drop_moved_keys` follows
INSERT OR IGNORE INTO keys
SELECT 0, hash, task FROM keys WHERE part > 0 AND part < :newest ORDER BY part, hash, task LIMIT :count;

-- drop_moved_keys --
-- Take them out of the parts they were in
DELETE FROM keys WHERE (part, hash, task) IN (
  SELECT part, hash, task FROM keys WHERE part > 0 AND part < :newest ORDER BY part, hash, task LIMIT :count
);

-- find_archived_by_task --
-- The archived task with this id, or no row
SELECT task, scope, key, state, settled_at, body, lsn, skill, parent, context_id, dead_letter, blobs FROM archive
WHERE task = ?;

-- find_archived_by_key --
-- The archived task with this scope and key, the newest where a key was used again, or no row
WITH RECURSIVE parts (part) AS (
  SELECT min(part) FROM keys
  UNION ALL SELECT (SELECT min(part) FROM keys WHERE keys.part > parts.part) FROM parts WHERE part IS NOT NULL
)
SELECT archive.task, scope, key, state, settled_at, body, lsn, skill, parent, context_id, dead_letter, blobs
FROM parts CROSS JOIN keys ON keys.part = parts.part AND keys.hash = :hash
CROSS JOIN archive ON archive.task = keys.task
WHERE scope = :scope AND key = :key ORDER BY lsn DESC LIMIT 1;

-- list_archived --
-- Archived tasks that are not gone and pass, newest first
SELECT task, scope, key, state, settled_at, body, lsn, skill, parent, context_id, dead_letter, blobs FROM archive
WHERE gone = 0 AND lsn < :before AND (:state IS NULL OR state = :state) AND (:skill IS NULL OR skill = :skill)
  AND (:parent IS NULL OR parent = :parent) AND (:context_id IS NULL OR context_id = :context_id)
  AND dead_letter >= :dead_letter
ORDER BY lsn DESC LIMIT :limit;

-- list_ended --
-- Archived tasks that are not gone and pass, the one that settled last first
SELECT task, scope, key, state, settled_at, body, lsn, skill, parent, context_id, dead_letter, blobs FROM archive
WHERE gone = 0 AND settled_at >= :since AND settled_at <= :settled_at
  AND (settled_at < :settled_at OR lsn < :before)
  AND (:state IS NULL OR state = :state) AND (:context_id IS NULL OR context_id = :context_id)
ORDER BY settled_at DESC, lsn DESC LIMIT :limit;

-- count_ended --
-- How many archived tasks are not gone and pass
SELECT count(*) FROM archive
WHERE gone = 0 AND settled_at >= :since
  AND (:state IS NULL OR state = :state) AND (:context_id IS NULL OR context_id = :context_id);

-- archive_conflicts --
-- Put a closed conflict into the archive, or replace it there
INSERT OR REPLACE INTO conflicts (conflict, lsn, kind, object, tasks, body, blobs) VALUES (?, ?, ?, ?, ?, ?, ?);

-- archive_conflict_tasks --
-- Have a conflict in the archive found by a task it is about
INSERT OR IGNORE INTO conflict_tasks (task, lsn) VALUES (?, ?);

-- find_conflict --
-- The archived conflict with this id, or no row
SELECT conflict, lsn, kind, object, tasks, body, blobs FROM conflicts WHERE conflict = ?;

-- list_conflicts --
-- Archived conflicts that pass, newest first
SELECT conflict, lsn, kind, object, tasks, body, blobs FROM conflicts
WHERE lsn < :before AND (:kind IS NULL OR kind = :kind) AND (:object IS NULL OR object = :object)
ORDER BY lsn DESC LIMIT :limit;

-- list_conflicts_of_task --
-- The same of those that are about a task
SELECT conflict, conflicts.lsn, kind, object, tasks, body, blobs
FROM conflict_tasks CROSS JOIN conflicts ON conflicts.lsn = conflict_tasks.lsn
WHERE conflict_tasks.task = :task AND conflict_tasks.lsn < :before
  AND (:kind IS NULL OR kind = :kind) AND (:object IS NULL OR object = :object)
ORDER BY conflict_tasks.lsn DESC LIMIT :limit;

-- archive_contexts --
-- Put an idle context into the archive, or replace it there
INSERT OR REPLACE INTO contexts (context_id, lsn, body, blobs) VALUES (?, ?, ?, ?);

-- find_context --
-- The archived context with this id, or no row
SELECT context_id, lsn, body, blobs FROM contexts WHERE context_id = ?;

-- list_contexts --
-- Archived contexts in the order of their ids
SELECT context_id, lsn, body, blobs FROM contexts WHERE context_id > ? ORDER BY context_id LIMIT ?;

-- find_prunable --
-- The oldest archived tasks that settled before a time and are not gone yet
SELECT task FROM archive WHERE gone = 0 AND settled_at < ? ORDER BY settled_at LIMIT ?;

-- prune_tasks --
-- Let an archived task be gone: its row says that it was there
UPDATE archive SET body = x'', blobs = x'', gone = 1 WHERE task = ?;
