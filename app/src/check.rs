//! `tideway check URL`

use std::process::ExitCode;

use serde_json::json;
use tideway_core::{Result, connector::ConnectCx};

use crate::{cli::UrlArgs, exit, print};

pub async fn run(args: UrlArgs, json: bool) -> Result<ExitCode> {
    let (connector, endpoint) = tideway_registry::from_url(&args.url)?;
    let cx = ConnectCx {
        data_dir: None,
        purpose: "tideway check".into(),
        ..ConnectCx::default()
    };
    let connection = connector.connect(&endpoint.configuration, &cx).await?;
    let report = connection.check().await;
    if json {
        let body = json!({
            "type": connector.about().id, "passed": report.passed(), "probes": report.probes,
        });
        print::line(&body.to_string());
    } else {
        print::line(&format!("{}:", connector.about().name));
        for probe in &report.probes {
            let mark = if probe.passed { "✓" } else { "✗" };
            print::line(&format!("  {mark} {:<14} {}", probe.name, probe.detail));
            if let Some(hint) = &probe.hint {
                print::line(&format!("    → {hint}"));
            }
        }
    }
    Ok(if report.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::PARTLY)
    })
}
