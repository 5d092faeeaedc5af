//! Values that the fields of a form can take, asked of the system itself.

use std::collections::BTreeMap;

use serde_json::Value;
use tideway_core::{Connector, Kind, Result};

use crate::{
    connection_types::wire::{ParameterValue, ParameterValues, ParameterValuesByField},
    state::ApiState,
};

/// The values of one field; `query` narrows them by what their labels contain.
pub async fn of_field(
    state: &ApiState,
    connector: &dyn Connector,
    field: &str,
    configuration: &Value,
    query: Option<&str>,
) -> Result<ParameterValues> {
    let query = query.unwrap_or_default().to_lowercase();
    let cx = state.work.connect_cx("choices");
    let choices = connector.choices(field, configuration, &cx).await?;
    let values = choices
        .into_iter()
        .filter(|choice| choice.label.to_lowercase().contains(&query))
        .map(|choice| ParameterValue {
            label: choice.label,
            path: None,
            value: choice.value,
        })
        .collect();
    Ok(ParameterValues {
        allows_creation: false,
        values,
    })
}

/// The values of every field that has a list of them.
pub async fn of_all_fields(
    state: &ApiState,
    connector: &dyn Connector,
    configuration: &Value,
) -> Result<ParameterValuesByField> {
    let mut by_field = BTreeMap::new();
    for (field, _) in connector.forms().connection.properties() {
        match of_field(state, connector, field, configuration, None).await {
            Ok(values) => {
                by_field.insert(field.clone(), values);
            }
            // So a connector says that the field has no list.
            Err(error) if error.kind == Kind::Config && error.blamed_field() == Some(field) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ParameterValuesByField(by_field))
}
