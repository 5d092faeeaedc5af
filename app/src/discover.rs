//! `tideway discover URL` and `tideway connection-types`

use std::process::ExitCode;

use serde_json::json;
use tideway_core::{Result, connector::ConnectCx, source::Scope};

use crate::{cli::DiscoverArgs, print};

pub async fn run(args: DiscoverArgs, json: bool) -> Result<ExitCode> {
    let (connector, endpoint) = tideway_registry::from_url(&args.url)?;
    let cx = ConnectCx {
        data_dir: None,
        purpose: "tideway discover".into(),
        ..ConnectCx::default()
    };
    let connection = connector.connect(&endpoint.configuration, &cx).await?;
    let source = connection.roles().need_source(connector.about().id)?;
    let namespaces = (!args.schema.is_empty()).then_some(args.schema);
    let catalog = source
        .discover(&Scope {
            namespaces,
            tables: None,
        })
        .await?;
    if json {
        print::line(&json!(catalog).to_string());
        return Ok(ExitCode::SUCCESS);
    }
    for table in &catalog.tables {
        let rows = table
            .row_estimate
            .map(|n| format!("  ~{} rows", print::count(n)));
        print::line(&format!("{}{}", table.id, rows.unwrap_or_default()));
        for column in &table.columns {
            let key = if table.primary_key.contains(&column.name) {
                " key"
            } else {
                ""
            };
            let null = if column.nullable { "" } else { " not null" };
            print::line(&format!(
                "  {:<32} {}{null}{key}",
                column.name, column.remote_type
            ));
        }
    }
    print::line(&format!("{} tables", catalog.tables.len()));
    Ok(ExitCode::SUCCESS)
}

pub fn connection_types(json: bool) -> Result<ExitCode> {
    for connector in tideway_registry::all() {
        let about = connector.about();
        if json {
            let body = json!({
                "id": about.id, "name": about.name,
                "source": about.source, "destination": about.destination,
                "schemes": about.schemes,
                "jsonschema": connector.forms().connection.json_schema,
            });
            print::line(&body.to_string());
        } else {
            let roles = match (about.source, about.destination) {
                (true, true) => "source, destination",
                (true, false) => "source",
                _ => "destination",
            };
            print::line(&format!(
                "{:<12} {:<16} {roles:<20} {}",
                about.id,
                about.name,
                about.schemes.join(", ")
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}
