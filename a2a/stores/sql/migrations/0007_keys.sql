-- The keys of archived tasks, by a hash and in parts. A key has its place anywhere among the others: in one index of them
-- all each would have a page of its own read, written to the log and into the database. New ones are spread over the few
-- pages of their part, and go over to part 0 in the order of their hashes, several to a page.

CREATE TABLE keys (
    part INTEGER NOT NULL,
    hash INTEGER NOT NULL,
    task TEXT    NOT NULL,
    PRIMARY KEY (part, hash, task)
) WITHOUT ROWID;

INSERT INTO keys SELECT 0, hash_of_key(scope, key), task FROM archive ORDER BY 2, 3;

DROP INDEX archive_by_key;
