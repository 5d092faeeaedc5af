//! Exit codes: what a script can tell from them is printed by `tideway --help`.

use std::process::ExitCode;

use serde_json::json;
use tideway_core::{Error, Kind};

/// Some of the work failed.
pub const PARTLY: u8 = 1;

pub fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Config | Kind::Unsupported | Kind::Conflict => 2,
        Kind::Auth | Kind::Permission => 3,
        Kind::Missing => 4,
        Kind::Unavailable | Kind::Timeout | Kind::RateLimited { .. } | Kind::Fenced => 5,
        Kind::Full => 6,
        Kind::Data | Kind::Drift => 7,
        Kind::Bug => 70,
        Kind::Cancelled => 130,
    }
}

/// Prints the error with its remedy and gives its code.
pub fn failure(error: &Error, json: bool) -> ExitCode {
    if json {
        let body = json!({"error": {
            "kind": error.kind.word(),
            "message": error.to_string(),
            "hint": error.advice(),
            "field": error.blamed_field(),
        }});
        crate::print::line(&body.to_string());
    } else {
        eprintln!("error: {error}\n  → {}", error.advice());
    }
    ExitCode::from(code(error.kind))
}
