//! The configuration of a connection between what clients write and what is stored: in
//! the client's spelling, with a masked secret standing for the stored one.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tideway_core::{
    Connector,
    form::{Form, aliases},
};
use tideway_registry::settings::checked;
use uuid::Uuid;

use crate::{
    auth::Caller,
    problem::{Answer, Problem},
    state::ApiState,
    wire::JsonObject,
};

/// The stored configuration that a request builds upon, if it names a connection.
pub async fn beneath(
    state: &ApiState,
    caller: &Caller,
    connection: Option<Uuid>,
    kind: &str,
) -> Answer<Option<Value>> {
    let Some(id) = connection else {
        return Ok(None);
    };
    let stored = state
        .store()
        .connections()
        .get(caller.organization()?, id)
        .await?;
    if stored.kind != kind {
        let message = format!("the connection is of the type {}, not {kind}", stored.kind);
        return Err(Problem::bad_request(message).with("field", "connection_id"));
    }
    Ok(Some(stored.configuration.expose().clone()))
}

/// `written` in place of everything that is stored; only masked secrets are kept.
pub fn replaced(form: &Form, stored: Option<&Value>, written: &JsonObject) -> Value {
    let written = Value::Object(written.clone());
    let mut kept = form.with_kept_secrets(&written, stored.unwrap_or(&Value::Null));
    if let Value::Object(fields) = &mut kept {
        fields.retain(|_, value| !value.is_null());
    }
    kept
}

/// `written` laid over what is stored, field by field. A field that is written takes the
/// place of the stored one even if that is spelled otherwise.
pub fn merged(form: &Form, stored: Option<&Value>, written: &JsonObject) -> Value {
    let mut fields = stored
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    if let Value::Object(written) = replaced(form, stored, written) {
        for (spelling, value) in written {
            for other in spellings(form, &spelling) {
                fields.remove(other);
            }
            fields.insert(spelling, value);
        }
    }
    fields.into()
}

/// All spellings of the property that this is one of.
fn spellings<'a>(form: &'a Form, spelling: &str) -> Vec<&'a str> {
    form.properties()
        .map(|(name, property)| {
            std::iter::once(name.as_str())
                .chain(aliases(property))
                .collect::<Vec<_>>()
        })
        .find(|spellings| spellings.contains(&spelling))
        .unwrap_or_default()
}

/// Answers 422 with every trouble that the form finds.
pub fn check_form(connector: &dyn Connector, configuration: &Value) -> Answer<()> {
    checked(&connector.forms().connection, configuration)
        .map(drop)
        .map_err(|troubles| Problem::of_fields(&troubles))
}

/// Connects with the configuration; answers 400 with what was tried if that fails.
pub async fn probe(state: &ApiState, kind: &str, configuration: &Value) -> Answer<()> {
    let report = state.work.check(kind, configuration).await;
    let Some(failure) = report.first_failure() else {
        return Ok(());
    };
    let hint = failure.hint.as_deref().unwrap_or_default();
    let message = format!("{}: {}", failure.name, failure.detail);
    let message = if hint.is_empty() {
        message
    } else {
        format!("{message}: {hint}")
    };
    Err(
        Problem::new(StatusCode::BAD_REQUEST, "connection_error", message)
            .with("hint", hint)
            .with("probes", json!(report.probes)),
    )
}

#[cfg(test)]
mod tests {
    use tideway_core::form::MASK;

    use super::*;

    fn form() -> Form {
        Form {
            json_schema: json!({
                "type": "object",
                "properties": {
                    "host": {"type": "string", "aliases": ["hostname"]},
                    "port": {"type": "integer"},
                    "password": {"type": "string", "sensitive": true}
                }
            }),
            ui_schema: json!({}),
        }
    }

    fn written(value: Value) -> JsonObject {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn a_merge_keeps_what_is_not_written() {
        let stored = json!({"host": "a", "port": 1, "password": "s3cret"});
        let merged = merged(&form(), Some(&stored), &written(json!({"port": 2})));
        assert_eq!(
            merged,
            json!({"host": "a", "port": 2, "password": "s3cret"})
        );
    }

    #[test]
    fn another_spelling_takes_the_place_of_the_stored_one() {
        let stored = json!({"host": "a", "password": "s3cret"});
        let merged = merged(&form(), Some(&stored), &written(json!({"hostname": "b"})));
        assert_eq!(merged, json!({"hostname": "b", "password": "s3cret"}));
    }

    #[test]
    fn a_masked_secret_stands_for_the_stored_one() {
        let stored = json!({"host": "a", "password": "s3cret"});
        let masked = written(json!({"host": "b", "password": MASK}));
        let expected = json!({"host": "b", "password": "s3cret"});
        assert_eq!(replaced(&form(), Some(&stored), &masked), expected);
        assert_eq!(merged(&form(), Some(&stored), &masked), expected);
    }

    #[test]
    fn a_masked_secret_without_a_stored_one_is_no_secret() {
        let masked = written(json!({"host": "b", "password": MASK}));
        assert_eq!(replaced(&form(), None, &masked), json!({"host": "b"}));
    }

    #[test]
    fn null_is_absent() {
        let stored = json!({"host": "a", "port": 1});
        let nulls = written(json!({"host": "b", "port": null}));
        assert_eq!(
            replaced(&form(), Some(&stored), &nulls),
            json!({"host": "b"})
        );
        assert_eq!(
            merged(&form(), Some(&stored), &nulls),
            json!({"host": "b", "port": 1})
        );
    }
}
