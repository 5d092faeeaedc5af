//! What every answer is wrapped in: `data` for success, `key`/`message`/`status`/`metadata` for
//! errors, `pagination` for lists that come in pages.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::wire::JsonObject;

/// A successful answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Data<T: ToSchema> {
    pub data: T,
}

impl<T: ToSchema> Data<T> {
    pub fn new(data: T) -> Self {
        Self { data }
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T: ToSchema> {
    pub data: Vec<T>,
    pub pagination: Pagination,
}

impl<T: ToSchema> Page<T> {
    pub fn new(data: Vec<T>, next_page_token: Option<String>) -> Self {
        Self {
            data,
            pagination: Pagination { next_page_token },
        }
    }
}

/// Where a list goes on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pagination {
    /// Hand it back as `page_token` for the next page; null on the last one. Its content is opaque.
    pub next_page_token: Option<String>,
}

/// How many items a page has: what the request asked for, within bounds.
pub fn page_size(limit: Option<u32>, default: u32, maximum: u32) -> u32 {
    match limit {
        None | Some(0) => default,
        Some(limit) => limit.min(maximum),
    }
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// A stable identifier of the kind of error, for programs.
    #[schema(example = "not_found")]
    pub key: String,
    /// What went wrong and what to do about it, for people.
    pub message: String,
    /// Details that programs can use, such as the fields at fault.
    #[schema(value_type = Object)]
    pub metadata: JsonObject,
    /// The HTTP status, repeated.
    #[schema(example = 404)]
    pub status: u16,
}

/// The header that makes a change safe to repeat; goes into the `params` of every POST, PUT, PATCH
/// and DELETE.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyHeader {
    /// A client-chosen name for this request, 8 to 255 characters of `A-Z a-z 0-9 _ -`. A repeat
    /// within 24 hours gets the first outcome again.
    #[serde(rename = "Idempotency-Key")]
    #[param(
        required = false,
        min_length = 8,
        max_length = 255,
        pattern = "^[A-Za-z0-9_-]+$"
    )]
    pub idempotency_key: Option<String>,
}
