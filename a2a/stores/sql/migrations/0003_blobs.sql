-- Large payloads are files beside the database, and rows name them by their SHA-256.

ALTER TABLE log ADD COLUMN blob BLOB;

-- For the look whether all are there, which does not read the log.
CREATE INDEX log_by_blob ON log (blob) WHERE blob IS NOT NULL;

-- What a body refers to by number, one digest behind the other.
ALTER TABLE archive ADD COLUMN blobs BLOB NOT NULL DEFAULT x'';
