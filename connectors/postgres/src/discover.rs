//! What the database offers.
use serde_json::Value;
use tideway_core::{Result, connector::{Choice, ConnectCx}};

pub async fn choices(_field: &str, _configuration: &Value, _cx: &ConnectCx) -> Result<Vec<Choice>> {
    Ok(vec![])
}
