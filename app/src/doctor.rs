//! `tideway doctor`: looks for what could keep Tideway from working here.

use std::{path::Path, process::ExitCode};

use serde_json::json;
use tideway_core::{CheckReport, Error, Result, connector::ConnectCx};

use crate::{
    cli::DataArgs,
    exit, print,
    serve::{self, API_KEY_FILE},
};

pub async fn run(args: DataArgs, json: bool) -> Result<ExitCode> {
    let mut report = CheckReport::default();
    data_folder(&args.data_dir, &mut report);
    match serve::open(&args).await {
        Ok(store) => {
            match store.ready().await {
                Ok(()) => report.pass("metadata", "the database opens and is up to date"),
                Err(error) => report.fail("metadata", &error),
            }
            store.close().await;
        }
        Err(error) => report.fail("metadata", &error),
    }
    duckdb(&args.data_dir, &mut report).await;
    if json {
        let body = json!({"passed": report.passed(), "probes": report.probes});
        print::line(&body.to_string());
    } else {
        for probe in &report.probes {
            let mark = if probe.passed { "✓" } else { "✗" };
            print::line(&format!("{mark} {:<12} {}", probe.name, probe.detail));
            if let Some(hint) = &probe.hint {
                print::line(&format!("  → {hint}"));
            }
        }
    }
    Ok(if report.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::PARTLY)
    })
}

/// The folder can be written, and what is secret in it is not open to others.
fn data_folder(folder: &Path, report: &mut CheckReport) {
    use std::os::unix::fs::PermissionsExt;
    let probe = folder.join(".doctor");
    let written = serve::make_folder(folder).and_then(|()| {
        std::fs::write(&probe, b"x")?;
        Ok(std::fs::remove_file(&probe)?)
    });
    match written {
        Ok(()) => report.pass(
            "data folder",
            format!("{} can be written", folder.display()),
        ),
        Err(error) => {
            let error = error
                .while_(folder.display())
                .hint("choose another with --data-dir");
            report.fail("data folder", &error);
        }
    }
    for name in [API_KEY_FILE, "encryption.key"] {
        let file = folder.join(name);
        let Ok(metadata) = std::fs::metadata(&file) else {
            continue;
        };
        if metadata.permissions().mode() & 0o077 == 0 {
            report.pass("secrets", format!("{name} is its owner's alone"));
        } else {
            let error = Error::permission(format!("{} can be read by others", file.display()))
                .hint(format!("chmod 600 {}", file.display()));
            report.fail("secrets", &error);
        }
    }
}

/// The DuckDB library can be loaded: a database is opened and thrown away.
async fn duckdb(data_dir: &Path, report: &mut CheckReport) {
    let Some(connector) = tideway_registry::find("duckdb") else {
        return;
    };
    let file = std::env::temp_dir().join(format!("tideway-doctor-{}.duckdb", uuid::Uuid::now_v7()));
    let cx = ConnectCx {
        data_dir: Some(data_dir.to_path_buf()),
        purpose: "tideway doctor".into(),
        ..ConnectCx::default()
    };
    let opened = connector.connect(&json!({"path": file}), &cx).await;
    match opened {
        Ok(_) => report.pass("duckdb", "the library loads"),
        Err(error) => report.fail("duckdb", &error),
    }
    let _ = std::fs::remove_file(&file);
}
