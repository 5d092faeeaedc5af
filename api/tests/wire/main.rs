//! The wire types read what clients send, say clearly what they cannot read, and document
//! themselves.

mod answers;
mod document;
mod requests;
mod schedules;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

const ID: &str = "248df4b7-aa70-47b8-a036-33ac447e668d";
const OTHER_ID: &str = "0b155265-c537-44c9-9359-a3ceb468a4da";

/// Reads like the routes do, and puts the path of the trouble before the message.
fn read<T: DeserializeOwned>(body: &Value) -> Result<T, String> {
    let text = body.to_string();
    let mut json = serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(&mut json)
        .map_err(|error| format!("{}: {}", error.path(), error.inner()))
}

/// What is read is written back the same.
#[track_caller]
fn round_trips<T: DeserializeOwned + Serialize>(body: Value) {
    let request: T = read(&body).unwrap_or_else(|error| panic!("{error} in {body}"));
    assert_eq!(serde_json::to_value(request).unwrap(), body);
}

fn bulk_sync(schedules: Value) -> Value {
    let mut body = json!({
        "name": "shop",
        "source_connection_id": ID,
        "destination_connection_id": OTHER_ID,
        "destination_configuration": {"schema": "public"},
    });
    let fields = schedules.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}
