-- Executions are the queue: a worker claims one by lease.
--
-- Unfinished ones have no `completed_at`. They may be claimed once `claimable_at` has
-- passed: that is when they were queued, when the lease of their worker ends, or when
-- a pause after a failed attempt is over. `fence` counts the claims; a write with an
-- older fence is refused.
CREATE TABLE executions (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  sync_id TEXT NOT NULL REFERENCES bulk_syncs (id) ON DELETE CASCADE,
  status TEXT NOT NULL,
  status_message TEXT,
  trigger_kind TEXT NOT NULL,
  schedule_id TEXT,
  resync_mode TEXT,
  fetch_mode TEXT NOT NULL,
  selective_mode TEXT NOT NULL,
  is_test INTEGER NOT NULL,
  only_schemas TEXT NOT NULL,
  version TEXT,
  cancel_requested INTEGER NOT NULL,
  cancel_schemas TEXT NOT NULL,
  claimable_at INTEGER NOT NULL,
  worker TEXT,
  fence INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  followed INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  started_at INTEGER,
  completed_at INTEGER,
  updated_at INTEGER NOT NULL
) STRICT;
-- No sync runs twice at once, whichever process starts it.
CREATE UNIQUE INDEX executions_one_at_a_time ON executions (sync_id) WHERE completed_at IS NULL;
CREATE INDEX executions_queue ON executions (claimable_at) WHERE completed_at IS NULL;
CREATE INDEX executions_listed ON executions (sync_id, created_at, id);
CREATE INDEX executions_unfollowed ON executions (completed_at) WHERE followed = FALSE;

CREATE TABLE schema_executions (
  execution_id TEXT NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
  schema_id TEXT NOT NULL,
  status TEXT NOT NULL,
  status_message TEXT,
  output_name TEXT NOT NULL,
  record_count INTEGER NOT NULL,
  error_count INTEGER NOT NULL,
  warning_count INTEGER NOT NULL,
  inserted INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  deleted INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  completed_at INTEGER,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (execution_id, schema_id)
) STRICT;

-- How far each table of a sync has been read.
CREATE TABLE checkpoints (
  sync_id TEXT NOT NULL REFERENCES bulk_syncs (id) ON DELETE CASCADE,
  schema_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  state TEXT NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (sync_id, schema_id)
) STRICT;

-- The console log of executions, and of the ingestion of a connection's changes,
-- which has no execution.
CREATE TABLE log_entries (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  execution_id TEXT REFERENCES executions (id) ON DELETE CASCADE,
  connection_id TEXT REFERENCES connections (id) ON DELETE CASCADE,
  sync_id TEXT REFERENCES bulk_syncs (id) ON DELETE CASCADE,
  schema_id TEXT,
  level TEXT NOT NULL,
  message TEXT NOT NULL,
  payload TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX log_entries_by_execution ON log_entries (execution_id, id);
CREATE INDEX log_entries_by_schema ON log_entries (execution_id, schema_id, id);
CREATE INDEX log_entries_by_connection ON log_entries (connection_id, id)
  WHERE connection_id IS NOT NULL;
CREATE INDEX log_entries_by_sync ON log_entries (sync_id) WHERE sync_id IS NOT NULL;
CREATE INDEX log_entries_by_age ON log_entries (created_at);
