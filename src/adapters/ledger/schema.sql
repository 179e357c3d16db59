-- The tables of the ledger, in PostgreSQL's words; `sqlite.rs` says how they read for SQLite.
-- Times are milliseconds since the Unix epoch. What people look for stands in columns of its own;
-- `plan`, `kept`, `record_ids`, `opinions` and `ticket` are JSON.

CREATE TABLE IF NOT EXISTS ledger (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS secrets (
    name TEXT PRIMARY KEY NOT NULL,
    value BYTEA NOT NULL
);

-- One row for each write, for ever; `id` is what the backend sees as Idempotency-Key.
CREATE TABLE IF NOT EXISTS executions (
    id TEXT PRIMARY KEY NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'sent', 'executed', 'failed', 'unknown')),
    fence BIGINT NOT NULL,
    owner TEXT NOT NULL,
    lease_until_ms BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    sent_ms BIGINT,
    changed_ms BIGINT NOT NULL,
    kept TEXT,
    body BYTEA,
    record_ids TEXT NOT NULL,
    opinions TEXT NOT NULL,
    note TEXT NOT NULL,
    tenant TEXT NOT NULL,
    issuer TEXT NOT NULL,
    "user" TEXT NOT NULL,
    client TEXT NOT NULL,
    workflow TEXT NOT NULL,
    key TEXT NOT NULL,
    tool TEXT NOT NULL,
    approval_id TEXT,
    fingerprint TEXT NOT NULL,
    plan TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS executions_by_lease ON executions (lease_until_ms) WHERE state IN ('sent', 'unknown');
CREATE INDEX IF NOT EXISTS executions_by_tenant ON executions (tenant, created_ms);
CREATE INDEX IF NOT EXISTS executions_by_state ON executions (state, created_ms);
CREATE INDEX IF NOT EXISTS executions_by_key ON executions (key);
CREATE INDEX IF NOT EXISTS executions_by_body ON executions (changed_ms) WHERE body IS NOT NULL;

-- One row for each approval. `question` is the digest of what it asks, while asking the same finds it;
-- `lapses_ms` is when its time runs out, while it can.
CREATE TABLE IF NOT EXISTS tickets (
    id TEXT PRIMARY KEY NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'rejected', 'executed', 'failed')),
    digest TEXT NOT NULL,
    question TEXT UNIQUE,
    asked_ms BIGINT NOT NULL,
    lapses_ms BIGINT,
    consumed_by TEXT,
    tenant TEXT NOT NULL,
    issuer TEXT NOT NULL,
    "user" TEXT NOT NULL,
    client TEXT NOT NULL,
    workflow TEXT NOT NULL,
    tool TEXT NOT NULL,
    ticket TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS tickets_by_lapse ON tickets (lapses_ms) WHERE lapses_ms IS NOT NULL;
CREATE INDEX IF NOT EXISTS tickets_by_tenant ON tickets (tenant, asked_ms);
CREATE INDEX IF NOT EXISTS tickets_by_state ON tickets (state, asked_ms);
