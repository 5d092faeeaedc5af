//! What operations may answer besides success, for the OpenAPI document. What a 400
//! means stands with each operation.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, ToSchema,
    openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder},
};

use crate::envelope::ApiError;

const READ: [(&str, &str); 5] = [
    ("401", "the request carries no valid key"),
    ("403", "the key may not do this"),
    (
        "404",
        "there is no such object in the caller's organization",
    ),
    ("500", "a fault of the server"),
    ("503", "the server's own database cannot be reached"),
];

const CHANGE: [(&str, &str); 3] = [
    (
        "409",
        "it is in use, or the same request is still under way",
    ),
    ("413", "the body is larger than the server takes"),
    ("422", "a value does not fit"),
];

/// Of operations that change nothing.
pub struct ReadFailures;

/// Of operations with a body or an effect.
pub struct ChangeFailures;

impl IntoResponses for ReadFailures {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        READ.into_iter().map(failure).collect()
    }
}

impl IntoResponses for ChangeFailures {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        READ.into_iter().chain(CHANGE).map(failure).collect()
    }
}

fn failure((status, description): (&str, &str)) -> (String, RefOr<Response>) {
    let body = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(ApiError::name())))
        .build();
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/json", body)
        .build();
    (status.to_owned(), response.into())
}
