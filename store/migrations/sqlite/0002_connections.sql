-- Connections and what was discovered through them. A connection's configuration
-- is among the secrets.

CREATE TABLE connections (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  type TEXT NOT NULL,
  policies TEXT NOT NULL,
  status TEXT NOT NULL,
  status_error TEXT,
  saved INTEGER NOT NULL,
  parent_connection_id TEXT REFERENCES connections (id),
  healthcheck_interval TEXT,
  health_checked_at INTEGER,
  next_health_check_at INTEGER,
  rate_limited_since INTEGER,
  rate_limited_until INTEGER,
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  updated_at INTEGER NOT NULL,
  updated_by TEXT NOT NULL
) STRICT;
CREATE INDEX connections_listed ON connections (organization_id, updated_at, id);
CREATE INDEX connections_by_health_check ON connections (next_health_check_at)
  WHERE next_health_check_at IS NOT NULL;
CREATE INDEX connections_by_parent ON connections (parent_connection_id)
  WHERE parent_connection_id IS NOT NULL;

-- Calls to the other side, per hour (its first microsecond). `sync_id` is empty for
-- calls that no sync made.
CREATE TABLE connection_calls (
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
  hour INTEGER NOT NULL,
  sync_id TEXT NOT NULL,
  category TEXT NOT NULL,
  calls INTEGER NOT NULL,
  PRIMARY KEY (connection_id, hour, sync_id, category)
) STRICT;

-- `refreshing_until` is when a refresh that is under way counts as dead.
CREATE TABLE catalogs (
  connection_id TEXT PRIMARY KEY REFERENCES connections (id) ON DELETE CASCADE,
  refresh_started_at INTEGER,
  refresh_finished_at INTEGER,
  refresh_error TEXT,
  refreshing_until INTEGER,
  discovered_at INTEGER
) STRICT;

CREATE TABLE catalog_tables (
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
  schema_id TEXT NOT NULL,
  definition TEXT NOT NULL,
  PRIMARY KEY (connection_id, schema_id)
) STRICT;

CREATE TABLE key_overrides (
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
  schema_id TEXT NOT NULL,
  fields TEXT NOT NULL,
  PRIMARY KEY (connection_id, schema_id)
) STRICT;

CREATE TABLE user_fields (
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
  schema_id TEXT NOT NULL,
  field_id TEXT NOT NULL,
  label TEXT NOT NULL,
  type TEXT NOT NULL,
  path TEXT,
  definition TEXT,
  example TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (connection_id, schema_id, field_id)
) STRICT;
