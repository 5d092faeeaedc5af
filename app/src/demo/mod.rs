//! `tideway demo`: the main job on sample data, against a running server, through the
//! same HTTP API that everyone else uses.

mod client;
mod shop;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tideway_core::{Error, Result};

use crate::{cli::DemoArgs, print};
use client::Client;

pub async fn run(args: DemoArgs, json: bool) -> Result<ExitCode> {
    let key = api_key(&args)?;
    let client = Client::new(&args.server, &key)?;
    let folder = absolute(&args.data_dir)?.join("demo");
    std::fs::create_dir_all(&folder)
        .map_err(|error| Error::from(error).while_(folder.display()))?;
    let say = |text: &str| {
        if !json {
            print::line(text);
        }
    };

    let begun = Instant::now();
    let shop = folder.join("shop.db");
    let rows = blocking(move || shop::create(&shop, args.rows)).await?;
    say(&format!(
        "1. A shop database of {} rows in five tables: {} ({})",
        print::count(rows),
        folder.join("shop.db").display(),
        print::seconds(begun.elapsed())
    ));

    let stage = Stage::set(&client, &folder).await?;
    say("2. Three connections and two bulk syncs, made over the API:");
    say(&format!(
        "   shop (sqlite) → warehouse (duckdb)   sync {}",
        stage.warehouse
    ));
    say(&format!(
        "   shop (sqlite) → lake (parquet files) sync {}",
        stage.lake
    ));

    say("3. The first run carries everything:");
    let first = stage.run_both(&client, &say).await?;
    let shop = folder.join("shop.db");
    let changes = blocking(move || shop::change(&shop)).await?;
    say(&format!("4. The shop goes on: {changes}"));
    say("5. The next run finds all of that and writes nothing else:");
    let second = stage.run_both(&client, &say).await?;
    if json {
        print::line(&json!({"rows": rows, "first": first, "second": second}).to_string());
    }
    say(&places(&folder, &args.server, &args.data_dir));
    Ok(ExitCode::SUCCESS)
}

async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(job)
        .await
        .map_err(|error| Error::bug(format!("the sample data task stopped: {error}")))?
}

/// The key given, or the one that the server left in its data folder.
fn api_key(args: &DemoArgs) -> Result<String> {
    if let Some(key) = &args.api_key {
        return Ok(key.clone());
    }
    let file = args.data_dir.join(crate::serve::API_KEY_FILE);
    std::fs::read_to_string(&file)
        .map(|key| key.trim().to_owned())
        .map_err(|error| {
            Error::from(error)
                .while_(format!("reading the API key from {}", file.display()))
                .hint("start the server with the same --data-dir, or pass --api-key")
        })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

/// The connections and syncs of the demo.
struct Stage {
    warehouse: String,
    lake: String,
}

impl Stage {
    /// Made anew each time, with empty destinations, so that the demo can be repeated.
    async fn set(client: &Client, folder: &Path) -> Result<Stage> {
        let names = ["Demo shop", "Demo warehouse", "Demo lake"];
        for connection in client.list("/api/connections").await? {
            if names.iter().any(|name| connection["name"] == **name)
                && let Some(id) = connection["id"].as_str()
            {
                client
                    .delete(&format!("/api/connections/{id}?force=true"))
                    .await?;
            }
        }
        let (warehouse, lake) = (folder.join("warehouse.duckdb"), folder.join("lake"));
        remove(&warehouse)?;
        remove(&folder.join("warehouse.duckdb.wal"))?;
        remove(&lake)?;
        std::fs::create_dir_all(&lake)?;
        let connect = async |name: &str, kind: &str, path: &Path| {
            let body = json!({"name": name, "type": kind, "configuration": {"path": path}});
            client.create("/api/connections", &body).await
        };
        let shop = connect(names[0], "sqlite", &folder.join("shop.db")).await?;
        let warehouse = connect(names[1], "duckdb", &warehouse).await?;
        let lake = connect(names[2], "files", &lake).await?;
        let sync = async |name: &str, destination: &str, configuration: Value| {
            let body = json!({
                "name": name, "mode": "replicate", "active": true,
                "source_connection_id": shop,
                "destination_connection_id": destination,
                "destination_configuration": configuration,
                "default_schedule": {"frequency": "manual"},
            });
            client.create("/api/bulk/syncs", &body).await
        };
        Ok(Stage {
            warehouse: sync(
                "Demo shop to warehouse",
                &warehouse,
                json!({"schema": "shop"}),
            )
            .await?,
            lake: sync("Demo shop to lake", &lake, json!({"format": "parquet"})).await?,
        })
    }

    async fn run_both(&self, client: &Client, say: &impl Fn(&str)) -> Result<Vec<Value>> {
        let mut results = Vec::new();
        for (name, sync) in [("warehouse", &self.warehouse), ("lake", &self.lake)] {
            results.push(run_sync(client, name, sync, say).await?);
        }
        Ok(results)
    }
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::from(error).while_(path.display()))
        }
        _ => Ok(()),
    }
}

/// Starts the sync, waits for its end and tells what each table got.
async fn run_sync(client: &Client, name: &str, sync: &str, say: &impl Fn(&str)) -> Result<Value> {
    let begun = Instant::now();
    let started = client
        .post(&format!("/api/bulk/syncs/{sync}/executions"), &json!({}))
        .await?;
    let id = started["id"].as_str().unwrap_or_default();
    let place = format!("/api/bulk/syncs/{sync}/executions/{id}");
    let ended = loop {
        let execution = client.get(&place).await?;
        match execution["status"].as_str().unwrap_or_default() {
            "completed" => break execution,
            "failed" | "errors" | "canceled" | "interrupted" => {
                let why = execution["status_message"]
                    .as_str()
                    .unwrap_or("no reason given");
                return Err(Error::data(format!(
                    "the sync to the {name} ended badly: {why}"
                )));
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let time = begun.elapsed();
    let rows = ended["record_count"].as_u64().unwrap_or_default();
    say(&format!(
        "   {name}: {} rows compared in {} ({} rows/s)",
        print::count(rows),
        print::seconds(time),
        print::count((rows as f64 / time.as_secs_f64().max(0.001)) as u64)
    ));
    let log = client.get(&format!("{place}/consolelog?limit=50")).await?;
    let entries = log["entries"].as_array().cloned().unwrap_or_default();
    let mut tables = Vec::new();
    for entry in entries
        .iter()
        .filter(|entry| entry["payload"]["place"].is_string())
    {
        let count = |what: &str| print::count(entry["payload"][what].as_u64().unwrap_or_default());
        say(&format!(
            "     {:<34} {:>7} inserted {:>5} updated {:>5} deleted {:>7} unchanged",
            shortened(entry["payload"]["place"].as_str().unwrap_or_default(), 34),
            count("inserted"),
            count("updated"),
            count("deleted"),
            count("unchanged")
        ));
        tables.push(entry["payload"].clone());
    }
    Ok(json!({"sync": sync, "rows": rows, "seconds": time.as_secs_f64(), "tables": tables}))
}

/// The end of a path is what tells.
fn shortened(place: &str, most: usize) -> String {
    let length = place.chars().count();
    if length <= most {
        return place.to_owned();
    }
    let tail: String = place.chars().skip(length - (most - 1)).collect();
    format!("…{tail}")
}

fn places(folder: &Path, server: &str, data_dir: &Path) -> String {
    let key_file = data_dir.join(crate::serve::API_KEY_FILE);
    let (folder, key_file) = (folder.display(), key_file.display());
    format!(
        "
Where to look
  the warehouse   {folder}/warehouse.duckdb
  the lake        {folder}/lake
  the API         {server}/docs

With curl
  curl -H \"Authorization: Bearer $(cat {key_file})\" {server}/api/bulk/syncs

With the official SDK (pip install polytomic)
  from polytomic import Polytomic
  client = Polytomic(base_url=\"{server}\", token=open(\"{key_file}\").read().strip())
  print([sync.name for sync in client.bulk_sync.list().data])

Without a server
  tideway copy sqlite://{folder}/shop.db 'file:///tmp/shop?format=parquet'"
    )
}
