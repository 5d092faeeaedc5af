-- The change streams that syncs have at their sources, and how far behind each is. What
-- was made for one at the source (a slot, a publication) outlives its sync and its
-- connection until it has been removed there, so nothing here refers to them; the
-- connection's configuration of that time is among the secrets.
CREATE TABLE streams (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  sync_id TEXT NOT NULL,
  connection_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  options TEXT NOT NULL,
  wanted BOOLEAN NOT NULL,
  state TEXT,
  state_at BIGINT,
  attached_at BIGINT NOT NULL,
  due_at BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  UNIQUE (sync_id, connection_id)
);
CREATE INDEX streams_due ON streams (due_at);
