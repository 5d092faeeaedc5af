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
  saved BOOLEAN NOT NULL,
  parent_connection_id TEXT REFERENCES connections (id),
  healthcheck_interval TEXT,
  health_checked_at BIGINT,
  next_health_check_at BIGINT,
  rate_limited_since BIGINT,
  rate_limited_until BIGINT,
  created_at BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  updated_at BIGINT NOT NULL,
  updated_by TEXT NOT NULL
);
CREATE INDEX connections_listed ON connections (organization_id, updated_at, id);
CREATE INDEX connections_by_health_check ON connections (next_health_check_at)
  WHERE next_health_check_at IS NOT NULL;
CREATE INDEX connections_by_parent ON connections (parent_connection_id)
  WHERE parent_connection_id IS NOT NULL;

-- Calls to the other side, per hour (its first microsecond). `sync_id` is empty for
-- calls that no sync made.
CREATE TABLE connection_calls (
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
  hour BIGINT NOT NULL,
  sync_id TEXT NOT NULL,
  category TEXT NOT NULL,
  calls BIGINT NOT NULL,
  PRIMARY KEY (connection_id, hour, sync_id, category)
);

-- `refreshing_until` is when a refresh that is under way counts as dead.
CREATE TABLE catalogs (
  connection_id TEXT PRIMARY KEY REFERENCES connections (id) ON DELETE CASCADE,
  refresh_started_at BIGINT,
  refresh_finished_at BIGINT,
  refresh_error TEXT,
  refreshing_until BIGINT,
  discovered_at BIGINT
);

CREATE TABLE catalog_tables (
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
  schema_id TEXT COLLATE "C" NOT NULL,
  definition TEXT NOT NULL,
  PRIMARY KEY (connection_id, schema_id)
);

CREATE TABLE key_overrides (
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
  schema_id TEXT COLLATE "C" NOT NULL,
  fields TEXT NOT NULL,
  PRIMARY KEY (connection_id, schema_id)
);

CREATE TABLE user_fields (
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
  schema_id TEXT COLLATE "C" NOT NULL,
  field_id TEXT COLLATE "C" NOT NULL,
  label TEXT NOT NULL,
  type TEXT NOT NULL,
  path TEXT,
  definition TEXT,
  example TEXT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (connection_id, schema_id, field_id)
);
