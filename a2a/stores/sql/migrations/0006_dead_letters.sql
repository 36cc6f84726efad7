-- Dead letters are listed by themselves. Of tasks that were archived before, nobody knows any more which were some.

ALTER TABLE archive ADD COLUMN dead_letter INTEGER NOT NULL DEFAULT 0;

DROP INDEX archive_by_lsn;
CREATE INDEX archive_by_lsn ON archive (lsn, state, skill, parent, context_id, dead_letter) WHERE gone = 0;
