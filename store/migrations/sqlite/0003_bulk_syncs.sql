-- Bulk syncs: what is copied, how, and when. Settings that nothing searches for are
-- one JSON object.

CREATE TABLE bulk_syncs (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  source_connection_id TEXT NOT NULL REFERENCES connections (id),
  destination_connection_id TEXT NOT NULL REFERENCES connections (id),
  mode TEXT NOT NULL,
  active INTEGER NOT NULL,
  settings TEXT NOT NULL,
  error_subscribers TEXT NOT NULL,
  ingestion_failure_threshold INTEGER,
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  updated_at INTEGER NOT NULL,
  updated_by TEXT NOT NULL
) STRICT;
CREATE INDEX bulk_syncs_listed ON bulk_syncs (organization_id, updated_at, id);
CREATE INDEX bulk_syncs_by_source ON bulk_syncs (source_connection_id);
CREATE INDEX bulk_syncs_by_destination ON bulk_syncs (destination_connection_id);

CREATE TABLE sync_schemas (
  sync_id TEXT NOT NULL REFERENCES bulk_syncs (id) ON DELETE CASCADE,
  schema_id TEXT NOT NULL,
  enabled INTEGER NOT NULL,
  user_output_name TEXT,
  output_name TEXT,
  tracking_field TEXT,
  partition_key TEXT,
  data_cutoff_timestamp INTEGER,
  disable_data_cutoff INTEGER NOT NULL,
  history_enabled INTEGER NOT NULL,
  fields TEXT,
  filters TEXT NOT NULL,
  PRIMARY KEY (sync_id, schema_id)
) STRICT;

-- `planned` is false from a change until the scheduler has worked out `next_fire_at`.
CREATE TABLE schedules (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  sync_id TEXT NOT NULL REFERENCES bulk_syncs (id) ON DELETE CASCADE,
  is_default INTEGER NOT NULL,
  frequency TEXT NOT NULL,
  timing TEXT NOT NULL,
  schemas TEXT NOT NULL,
  selective_mode TEXT NOT NULL,
  resync_mode TEXT NOT NULL,
  run_after TEXT NOT NULL,
  run_after_success_only INTEGER NOT NULL,
  connection_id TEXT,
  job_id TEXT,
  planned INTEGER NOT NULL,
  next_fire_at INTEGER,
  last_fired_at INTEGER,
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  updated_at INTEGER NOT NULL,
  updated_by TEXT NOT NULL
) STRICT;
CREATE INDEX schedules_by_sync ON schedules (sync_id, created_at);
CREATE UNIQUE INDEX schedules_one_default ON schedules (sync_id) WHERE is_default = TRUE;
CREATE INDEX schedules_unplanned ON schedules (updated_at) WHERE planned = FALSE;
CREATE INDEX schedules_due ON schedules (next_fire_at) WHERE next_fire_at IS NOT NULL;

-- The syncs whose end fires a schedule.
CREATE TABLE schedule_triggers (
  schedule_id TEXT NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
  after_sync_id TEXT NOT NULL,
  PRIMARY KEY (schedule_id, after_sync_id)
) STRICT;
CREATE INDEX schedule_triggers_by_sync ON schedule_triggers (after_sync_id);
