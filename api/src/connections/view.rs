//! Stored connections as the API shows them: without secrets.

use chrono::Utc;
use tideway_store::{Connection as Stored, RateLimit as StoredLimit, Usage};
use uuid::Uuid;

use crate::{
    connection_types::view::{logo_url, object},
    connections::wire::{
        Connection, ConnectionStatus, ConnectionTypeSummary, ConnectionUsage, RateLimit,
        SavedConnection, SyncKind, SyncUsage, UsageCategory,
    },
    wire::{Actor, JsonObject},
};

pub fn connection(stored: &Stored, public_url: &str) -> Connection {
    Connection {
        api_calls_last_24_hours: Some(stored.api_calls_last_24_hours),
        configuration: redacted(stored),
        created_at: stored.created_at,
        created_by: Some(Actor::from(&stored.created_by)),
        id: stored.id,
        name: stored.name.clone(),
        organization_id: stored.organization_id,
        parent_connection_id: stored.parent_connection_id,
        policies: policies(stored),
        rate_limit: Some(rate_limit(stored.rate_limit)),
        saved: stored.saved,
        status: status(&stored.status),
        status_error: stored.status_error.clone(),
        kind: summary(&stored.kind, public_url),
        updated_at: stored.updated_at,
        updated_by: Some(Actor::from(&stored.updated_by)),
    }
}

pub fn saved(stored: &Stored, public_url: &str) -> SavedConnection {
    SavedConnection {
        auth_code: None,
        auth_url: None,
        configuration: redacted(stored),
        healthcheck_interval: stored.healthcheck_interval.clone(),
        id: stored.id,
        name: stored.name.clone(),
        organization_id: stored.organization_id,
        policies: policies(stored),
        saved: stored.saved,
        status: status(&stored.status),
        status_error: stored.status_error.clone(),
        kind: summary(&stored.kind, public_url),
    }
}

/// Nothing is shown of a type that this build does not know: its secrets are unknown too.
fn redacted(stored: &Stored) -> JsonObject {
    match tideway_registry::find(&stored.kind) {
        Some(connector) => object(
            connector
                .forms()
                .connection
                .redacted(stored.configuration.expose()),
        ),
        None => JsonObject::new(),
    }
}

fn policies(stored: &Stored) -> Vec<Uuid> {
    stored
        .policies
        .iter()
        .filter_map(|policy| Uuid::parse_str(policy).ok())
        .collect()
}

fn status(word: &str) -> ConnectionStatus {
    match word {
        tideway_work::health::HEALTHY => ConnectionStatus::Healthy,
        tideway_work::health::UNHEALTHY => ConnectionStatus::Unhealthy,
        _ => ConnectionStatus::Unknown,
    }
}

fn rate_limit(stored: Option<StoredLimit>) -> RateLimit {
    let current = stored.filter(|limit| limit.expires_at.is_none_or(|end| end > Utc::now()));
    match current {
        Some(limit) => RateLimit {
            currently_limited: true,
            expires_at: limit.expires_at,
            limited_since: Some(limit.limited_since),
        },
        None => RateLimit::default(),
    }
}

fn summary(kind: &str, public_url: &str) -> ConnectionTypeSummary {
    let about = tideway_registry::find(kind).map(|connector| connector.about());
    let operations = about.map(|about| {
        [
            (about.source, "bulksyncsource"),
            (about.destination, "bulksyncdestination"),
            (about.enrichment, "enrichment"),
        ]
        .into_iter()
        .filter(|(offered, _)| *offered)
        .map(|(_, operation)| operation.to_owned())
        .collect()
    });
    ConnectionTypeSummary {
        id: kind.to_owned(),
        logo_dark_url: None,
        logo_url: about.map(|about| logo_url(about, public_url)),
        name: about.map_or(kind, |about| about.name).to_owned(),
        operations: operations.unwrap_or_default(),
    }
}

pub fn usage(connection_id: Uuid, usage: Usage) -> ConnectionUsage {
    ConnectionUsage {
        by_sync: usage.by_sync.into_iter().map(sync_usage).collect(),
        calls_last_24h: Some(usage.calls_last_24_hours),
        connection_id,
        reports_sync_stats: true,
    }
}

fn sync_usage(usage: tideway_store::SyncUsage) -> SyncUsage {
    let mut categories = usage.categories;
    categories.sort_by_key(|(_, calls)| std::cmp::Reverse(*calls));
    SyncUsage {
        categories: categories
            .into_iter()
            .map(|(key, calls)| UsageCategory {
                calls,
                label: label(&key),
                key,
            })
            .collect(),
        last_run_at: usage.last_run_at,
        sync_id: usage.sync_id,
        sync_name: usage.sync_name,
        sync_type: SyncKind::Bulk,
        total_calls: usage.total_calls,
    }
}

/// The key with a capital.
fn label(key: &str) -> String {
    let mut letters = key.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}
