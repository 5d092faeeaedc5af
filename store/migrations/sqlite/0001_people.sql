-- Who may use the server, and what is kept encrypted.

CREATE TABLE organizations (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  email TEXT NOT NULL,
  name TEXT NOT NULL,
  role TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  UNIQUE (organization_id, email)
) STRICT;

-- A key without an organization is a deployment key. `lookup` is the beginning of the hash.
CREATE TABLE api_keys (
  id TEXT PRIMARY KEY,
  organization_id TEXT REFERENCES organizations (id) ON DELETE CASCADE,
  user_id TEXT REFERENCES users (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  lookup TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE,
  fixed INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  last_used_at INTEGER
) STRICT;
CREATE INDEX api_keys_by_lookup ON api_keys (lookup);
CREATE INDEX api_keys_by_organization ON api_keys (organization_id);

-- Everything encrypted, by the record it belongs to. `key_id` names the master key
-- that wraps the record's own data key.
CREATE TABLE secrets (
  record_id TEXT NOT NULL,
  purpose TEXT NOT NULL,
  key_id TEXT NOT NULL,
  wrapped_key TEXT NOT NULL,
  ciphertext TEXT NOT NULL,
  PRIMARY KEY (record_id, purpose)
) STRICT;
CREATE INDEX secrets_by_key ON secrets (key_id);
