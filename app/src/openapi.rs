//! `tideway openapi`

use std::process::ExitCode;

use tideway_core::{Error, Result};

use crate::print;

pub fn run() -> Result<ExitCode> {
    let document = tideway_api::openapi()
        .to_pretty_json()
        .map_err(|error| Error::bug(format!("the document cannot be written as JSON: {error}")))?;
    print::line(&document);
    Ok(ExitCode::SUCCESS)
}
