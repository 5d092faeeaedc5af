//! `X-Polytomic-Version`: which generation of the API a client speaks.

use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderName, HeaderValue, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::problem::Problem;

pub const HEADER: HeaderName = HeaderName::from_static("x-polytomic-version");

/// Oldest first, so that they compare by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiVersion {
    V2021_05_23,
    V2022_12_12,
    V2023_04_25,
    V2024_02_08,
    V2025_09_18,
}

impl ApiVersion {
    pub const ALL: [ApiVersion; 5] = [
        ApiVersion::V2021_05_23,
        ApiVersion::V2022_12_12,
        ApiVersion::V2023_04_25,
        ApiVersion::V2024_02_08,
        ApiVersion::V2025_09_18,
    ];

    pub fn word(self) -> &'static str {
        match self {
            ApiVersion::V2021_05_23 => "2021-05-23",
            ApiVersion::V2022_12_12 => "2022-12-12",
            ApiVersion::V2023_04_25 => "2023-04-25",
            ApiVersion::V2024_02_08 => "2024-02-08",
            ApiVersion::V2025_09_18 => "2025-09-18",
        }
    }

    /// Bulk syncs had one schedule, lists came whole.
    pub fn has_single_schedule(self) -> bool {
        self <= ApiVersion::V2024_02_08
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts
            .extensions
            .get::<ApiVersion>()
            .copied()
            .unwrap_or(ApiVersion::V2025_09_18))
    }
}

/// Reads the header, newest if there is none, and repeats it in the answer.
pub async fn negotiate(mut request: Request, next: Next) -> Response {
    let asked = request
        .headers()
        .get(HEADER)
        .map(|value| value.to_str().unwrap_or_default());
    let version = match asked {
        None | Some("") => Some(ApiVersion::V2025_09_18),
        Some(asked) => ApiVersion::ALL
            .into_iter()
            .find(|version| version.word() == asked),
    };
    let Some(version) = version else {
        let known = ApiVersion::ALL.map(ApiVersion::word).join(", ");
        return Problem::bad_request(format!("X-Polytomic-Version must be one of {known}"))
            .with("field", HEADER.as_str())
            .into_response();
    };
    request.extensions_mut().insert(version);
    let mut response = next.run(request).await;
    response
        .headers_mut()
        .insert(HEADER, HeaderValue::from_static(version.word()));
    response
}
