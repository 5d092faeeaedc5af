//! Checks settings against a connector's form, field by field, before anyone connects.

use jsonschema::{ValidationError, error::ValidationErrorKind};
use serde_json::{Map, Value};
use tideway_core::form::{FieldError, Form, aliases, enum_values};

/// Settings in the form's own spelling, checked; or every trouble found, each naming the
/// field as the client spelled it.
pub fn checked(form: &Form, written: &Value) -> Result<Value, Vec<FieldError>> {
    let Value::Object(fields) = written else {
        return Err(vec![FieldError {
            field: "configuration".into(),
            message: "must be an object of settings".into(),
        }]);
    };
    let settings = canonical(&form.json_schema, fields);
    let validator = match jsonschema::validator_for(&strict(&form.json_schema)) {
        Ok(validator) => validator,
        Err(error) => {
            return Err(vec![FieldError {
                field: "configuration".into(),
                message: format!("the form of this type is broken: {error}"),
            }]);
        }
    };
    let troubles: Vec<FieldError> = validator
        .iter_errors(&settings)
        .flat_map(|error| field_errors(&form.json_schema, fields, &error))
        .collect();
    if troubles.is_empty() {
        Ok(settings)
    } else {
        Err(troubles)
    }
}

/// One spelling per field, no nulls, and numbers and booleans that came as strings
/// (Terraform and forms send such) as what they are.
fn canonical(schema: &Value, written: &Map<String, Value>) -> Value {
    let properties = schema["properties"].as_object();
    let name_of = |spelling: &str| -> Option<(&String, &Value)> {
        properties?.iter().find(|(name, property)| {
            *name == spelling || aliases(property).any(|alias| alias == spelling)
        })
    };
    let mut settings = Map::new();
    for (spelling, value) in written {
        if value.is_null() {
            continue;
        }
        match name_of(spelling) {
            Some((name, property)) if name == spelling || !written.contains_key(name) => {
                settings.insert(name.clone(), coerced(property, value));
            }
            Some(_) => {}
            None => {
                settings.insert(spelling.clone(), value.clone());
            }
        }
    }
    settings.into()
}

fn coerced(property: &Value, value: &Value) -> Value {
    match (property["type"].as_str(), value) {
        (Some("integer"), Value::String(text)) => text
            .trim()
            .parse::<i64>()
            .map_or_else(|_| value.clone(), Value::from),
        (Some("boolean"), Value::String(text)) => match text.as_str() {
            "true" => true.into(),
            "false" => false.into(),
            _ => value.clone(),
        },
        (Some("object"), Value::Object(fields)) if property["properties"].is_object() => {
            canonical(property, fields)
        }
        (Some("array"), Value::Array(items)) => items
            .iter()
            .map(|item| coerced(&property["items"], item))
            .collect(),
        _ => value.clone(),
    }
}

/// The schema that validators understand: plain enums, nothing unknown allowed, and
/// nothing required that only the server can know or that has a default.
fn strict(schema: &Value) -> Value {
    let mut made = schema.clone();
    let Some(object) = made.as_object_mut() else {
        return made;
    };
    if let Some(values) = enum_values(schema) {
        object.insert("enum".into(), values.into());
    }
    if let Some(properties) = schema["properties"].as_object() {
        let children = properties
            .iter()
            .map(|(name, child)| (name.clone(), strict(child)));
        object.insert("properties".into(), Value::Object(children.collect()));
        object.insert("additionalProperties".into(), false.into());
        let needed: Vec<Value> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|name| {
                let property = name.as_str().and_then(|name| properties.get(name));
                property.is_some_and(|property| property.get("default").is_none())
            })
            .cloned()
            .collect();
        object.insert("required".into(), needed.into());
    }
    if schema.get("items").is_some() {
        object.insert("items".into(), strict(&schema["items"]));
    }
    made
}

fn field_errors(
    schema: &Value,
    written: &Map<String, Value>,
    error: &ValidationError<'_>,
) -> Vec<FieldError> {
    let path = error.instance_path().to_string();
    let path = path.trim_start_matches('/').replace('/', ".");
    let at = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    let spelled = |field: String| {
        let property = &schema["properties"][field.as_str()];
        let alias = aliases(property).find(|alias| written.contains_key(*alias));
        match alias {
            Some(alias) if !written.contains_key(&field) => alias.to_owned(),
            _ => field,
        }
    };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let field = at(property.as_str().unwrap_or_default());
            vec![FieldError {
                message: format!("{field} is required"),
                field,
            }]
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|name| FieldError {
                field: at(name),
                message: format!("{} is not a setting of this connection type", at(name)),
            })
            .collect(),
        kind => {
            let field = spelled(path.clone());
            let message = format!("{field} {}", requirement(kind));
            vec![FieldError { field, message }]
        }
    }
}

/// What a value must be; never the value itself, which may be a secret.
fn requirement(kind: &ValidationErrorKind) -> String {
    match kind {
        ValidationErrorKind::Type { kind } => match kind {
            jsonschema::error::TypeKind::Single(kind) => format!("must be of type {kind}"),
            jsonschema::error::TypeKind::Multiple(_) => "is of the wrong type".into(),
        },
        ValidationErrorKind::Enum { options } => {
            let options: Vec<String> = options
                .as_array()
                .into_iter()
                .flatten()
                .map(|option| {
                    option
                        .as_str()
                        .map_or_else(|| option.to_string(), str::to_owned)
                })
                .collect();
            format!("must be one of {}", options.join(", "))
        }
        ValidationErrorKind::Minimum { limit } => format!("must be at least {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("must be at most {limit}"),
        ValidationErrorKind::MinLength { limit } => {
            format!("must have at least {limit} characters")
        }
        ValidationErrorKind::MaxLength { limit } => format!("must have at most {limit} characters"),
        ValidationErrorKind::Pattern { pattern } => format!("must look like {pattern}"),
        _ => "is not valid".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn form() -> Form {
        Form {
            json_schema: json!({
                "type": "object",
                "properties": {
                    "host": {"type": "string", "aliases": ["hostname"]},
                    "port": {"type": "integer", "minimum": 1, "maximum": 65535, "default": 5432},
                    "mode": {"type": "string", "enum": [{"value": "a", "label": "A"}]},
                    "password": {"type": "string", "sensitive": true},
                    "ssh": {"type": "boolean"}
                },
                "required": ["host", "port", "password"]
            }),
            ui_schema: json!({}),
        }
    }

    #[test]
    fn both_spellings_and_strings_of_numbers_are_accepted() {
        let written = json!({"hostname": "db", "port": "5433", "password": "x", "ssh": "false", "mode": null});
        assert_eq!(
            checked(&form(), &written).unwrap(),
            json!({"host": "db", "port": 5433, "password": "x", "ssh": false})
        );
    }

    #[test]
    fn every_trouble_is_named_at_once_and_shows_no_value() {
        let written = json!({"hostname": 5, "port": 70000, "mode": "s3cret", "colour": "s3cret"});
        let troubles = checked(&form(), &written).unwrap_err();
        let fields: Vec<&str> = troubles.iter().map(|t| t.field.as_str()).collect();
        for field in ["hostname", "port", "mode", "colour", "password"] {
            assert!(fields.contains(&field), "{field} is not among {fields:?}");
        }
        assert!(
            troubles.iter().all(|t| !t.message.contains("s3cret")),
            "{troubles:?}"
        );
    }
}
