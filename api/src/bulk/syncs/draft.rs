//! From a request for a sync to what is stored, checked.

use serde_json::Value;
use tideway_core::{
    Kind,
    connector::About,
    form::{FieldError, Form},
};
use tideway_registry::settings;
use tideway_store::{BulkSync, Connection, Discover, NormalizeNames, SyncDraft, SyncSettings};
use tideway_work::connect::connector;
use uuid::Uuid;

use super::wire::{BulkMode, PatchBulkSync, SaveBulkSync};
use crate::{
    problem::{Answer, Problem},
    state::ApiState,
    wire::JsonObject,
};

const LONGEST_NAME: usize = 255;

/// A checked sync, with the connection that it reads from and the kind of the other.
pub struct Draft {
    pub sync: SyncDraft,
    pub source: Connection,
    pub destination: &'static About,
}

/// The sync that a POST or PUT describes whole.
pub async fn whole(state: &ApiState, organization: Uuid, request: &SaveBulkSync) -> Answer<Draft> {
    let settings = SyncSettings {
        source_configuration: written(request.source_configuration.as_ref()),
        destination_configuration: written(Some(&request.destination_configuration)),
        automatically_add_new_fields: request.discover_fields().into(),
        automatically_add_new_objects: request.discover_objects().into(),
        normalize_names: request
            .normalize_names
            .map_or(NormalizeNames::Enabled, Into::into),
        data_cutoff_timestamp: request.data_cutoff_timestamp,
        disable_record_timestamps: request.disable_record_timestamps.unwrap_or_default(),
        concurrency_limit: limit(request.concurrency_limit),
        resync_concurrency_limit: limit(request.resync_concurrency_limit),
        policies: policies(request.policies.as_deref().unwrap_or_default()),
    };
    let sync = SyncDraft {
        name: request.name.clone(),
        source_connection_id: request.source_connection_id,
        destination_connection_id: request.destination_connection_id,
        mode: request.mode.unwrap_or(BulkMode::Replicate).into(),
        active: request.active.unwrap_or(true),
        settings,
    };
    checked(state, organization, sync).await
}

/// The stored sync with what a PATCH changes.
pub async fn patched(
    state: &ApiState,
    organization: Uuid,
    before: BulkSync,
    request: &PatchBulkSync,
) -> Answer<Draft> {
    let mut settings = before.settings;
    if let Some(configuration) = &request.source_configuration {
        settings.source_configuration = written(Some(configuration));
    }
    if let Some(configuration) = &request.destination_configuration {
        settings.destination_configuration = written(Some(configuration));
    }
    if let Some(discover) = request.discover {
        let policy = if discover {
            Discover::All
        } else {
            Discover::None
        };
        settings.automatically_add_new_fields = policy;
        settings.automatically_add_new_objects = policy;
    }
    if let Some(ids) = &request.policies {
        settings.policies = policies(ids);
    }
    let sync = SyncDraft {
        name: request.name.clone().unwrap_or(before.name),
        source_connection_id: request
            .source_connection_id
            .unwrap_or(before.source_connection_id),
        destination_connection_id: request
            .destination_connection_id
            .unwrap_or(before.destination_connection_id),
        mode: request.mode.map_or(before.mode, Into::into),
        active: request.active.unwrap_or(before.active),
        settings,
    };
    checked(state, organization, sync).await
}

async fn checked(state: &ApiState, organization: Uuid, mut sync: SyncDraft) -> Answer<Draft> {
    sync.name = checked_name(&sync.name)?;
    let (field, id) = ("source_connection_id", sync.source_connection_id);
    let source = side(state, organization, field, id, |about| about.source).await?;
    let (field, id) = ("destination_connection_id", sync.destination_connection_id);
    let destination = side(state, organization, field, id, |about| about.destination).await?;
    sync.settings.source_configuration = configuration(
        "source_configuration",
        &connector(&source.kind)?.forms().source,
        &sync.settings.source_configuration,
    )?;
    let destination = connector(&destination.kind)?;
    sync.settings.destination_configuration = configuration(
        "destination_configuration",
        &destination.forms().destination,
        &sync.settings.destination_configuration,
    )?;
    Ok(Draft {
        sync,
        source,
        destination: destination.about(),
    })
}

fn checked_name(name: &str) -> Answer<String> {
    let name = name.trim();
    if name.is_empty() {
        return Err(Problem::unprocessable("name", "name must not be empty"));
    }
    if name.chars().count() > LONGEST_NAME {
        return Err(Problem::unprocessable(
            "name",
            format!("name must have at most {LONGEST_NAME} characters"),
        ));
    }
    Ok(name.to_owned())
}

/// A connection of the organization that can play the role.
async fn side(
    state: &ApiState,
    organization: Uuid,
    field: &str,
    id: Uuid,
    can: impl Fn(&About) -> bool,
) -> Answer<Connection> {
    let connection = match state.store().connections().get(organization, id).await {
        Ok(connection) => connection,
        Err(error) if error.kind == Kind::Missing => {
            return Err(Problem::unprocessable(
                field,
                format!("{field}: there is no connection {id}"),
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let about = connector(&connection.kind)
        .map_err(|error| Problem::unprocessable(field, format!("{field}: {error}")))?
        .about();
    if !can(about) {
        let role = if field.starts_with("source") {
            "source"
        } else {
            "destination"
        };
        return Err(Problem::unprocessable(
            field,
            format!(
                "{field}: {} cannot be the {role} of a bulk sync",
                about.name
            ),
        ));
    }
    Ok(connection)
}

/// The configuration in the form's own spelling.
fn configuration(field: &str, form: &Form, written: &Value) -> Answer<Value> {
    settings::checked(form, written).map_err(|troubles| {
        let troubles: Vec<FieldError> = troubles
            .into_iter()
            .map(|trouble| FieldError {
                message: format!("{field}: {}", trouble.message),
                field: format!("{field}.{}", trouble.field),
            })
            .collect();
        Problem::of_fields(&troubles)
    })
}

fn written(configuration: Option<&JsonObject>) -> Value {
    Value::Object(configuration.cloned().unwrap_or_default())
}

/// 0 follows the deployment, as null does.
fn limit(limit: Option<u32>) -> Option<i64> {
    limit.filter(|limit| *limit > 0).map(i64::from)
}

fn policies(ids: &[Uuid]) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}

/// One address per element; no more is checked than that mail could get there.
pub fn checked_subscribers(addresses: Vec<String>) -> Answer<Vec<String>> {
    let plausible = |address: &str| {
        let odd =
            |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | ';' | '<' | '>');
        address.len() <= 254
            && !address.contains(odd)
            && address.rsplit_once('@').is_some_and(|(user, host)| {
                !user.is_empty()
                    && !user.contains('@')
                    && host.split('.').all(|label| !label.is_empty())
            })
    };
    match addresses.iter().find(|address| !plausible(address)) {
        Some(wrong) => Err(Problem::bad_request(format!(
            "subscribers: {wrong:?} is no mail address"
        ))
        .with("field", "subscribers")),
        None => Ok(addresses),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_mail_addresses_subscribe() {
        for good in [
            "ops@example.com",
            "a.b+c@mail.example.org",
            "root@localhost",
        ] {
            assert!(checked_subscribers(vec![good.into()]).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "ops",
            "@example.com",
            "a@b@c",
            "a b@c.d",
            "a@c..d",
            "a@b, c@d",
            "a@",
        ] {
            assert!(checked_subscribers(vec![wrong.into()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_trimmed_and_must_not_be_empty() {
        assert_eq!(checked_name("  orders ").unwrap(), "orders");
        assert!(checked_name(" \n").is_err());
        assert!(checked_name(&"x".repeat(256)).is_err());
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_configuration() {
        let form = Form {
            json_schema: json!({"type": "object", "properties": {"schema": {"type": "string"}}}),
            ui_schema: json!({}),
        };
        let problem =
            configuration("destination_configuration", &form, &json!({"shema": "x"})).unwrap_err();
        assert_eq!(problem.metadata["field"], "destination_configuration.shema");
        assert!(configuration("destination_configuration", &form, &json!({"schema": "x"})).is_ok());
    }

    #[test]
    fn a_limit_of_nothing_follows_the_deployment() {
        assert_eq!(
            [limit(None), limit(Some(0)), limit(Some(3))],
            [None, None, Some(3)]
        );
    }
}
