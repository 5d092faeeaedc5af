//! `tideway serve` and `tideway key rotate`

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use tideway_api::{ApiSettings, ApiState};
use tideway_core::{Error, Result, Secret, outbound::Outbound};
use tideway_store::{Bootstrap, Keyring, Store};
use tideway_work::{Work, WorkSettings};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    cli::{DataArgs, OutboundMode, ServeArgs},
    print,
};

/// The first user's key, in the data folder, readable by its owner alone.
pub const API_KEY_FILE: &str = "api-key";

pub async fn run(args: ServeArgs) -> Result<ExitCode> {
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| Error::bug(format!("metrics cannot be gathered: {error}")))?;
    // The address is taken first: a second server on it must not touch the data.
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        Error::from(error)
            .while_(format!("listening on {}", args.listen))
            .hint("choose another address with --listen, or stop what listens there")
    })?;
    let store = open(&args.data).await?;
    first_start(&store, &args).await?;

    let work = Work::new(
        store.clone(),
        WorkSettings {
            workers: args.workers,
            memory: args.memory_mib.max(1) << 20,
            lease: Duration::from_secs(args.lease_seconds.max(3)),
            healthcheck_interval: Duration::from_secs(args.healthcheck_seconds.max(1)),
            stream_period: Duration::from_secs(args.stream_seconds.max(1)),
            data_dir: args.data.data_dir.clone(),
            outbound: Outbound {
                public_only: args.outbound == OutboundMode::PublicOnly,
                allowed: args.outbound_allow.clone(),
            },
            ..WorkSettings::default()
        },
    );
    work.start();
    let address = listener.local_addr()?;
    let public_url = args
        .public_url
        .clone()
        .unwrap_or_else(|| format!("http://{address}"));
    let settings = ApiSettings {
        public_url: public_url.trim_end_matches('/').to_owned(),
        body_limit: args.body_limit_mib.max(1) << 20,
    };
    let router = tideway_api::router(ApiState::new(work.clone(), settings, metrics));
    tracing::info!("Tideway listens on {public_url}, its API reference is {public_url}/docs");
    axum::serve(listener, router)
        .with_graceful_shutdown(stopped())
        .await
        .map_err(|error| Error::from(error).while_("serving"))?;
    tracing::info!("stopping; executions under way go on after the next start");
    work.stop().await;
    store.close().await;
    Ok(ExitCode::SUCCESS)
}

pub async fn rotate(args: DataArgs, json: bool) -> Result<ExitCode> {
    if args.encryption_key.is_none() {
        Keyring::renew(&args.data_dir)?;
    }
    let store = open(&args).await?;
    let done = store.rotate().await?;
    if json {
        let body = json!({
            "key_id": done.key_id, "rewrapped": done.rewrapped, "total": done.total,
        });
        print::line(&body.to_string());
    } else {
        print::line(&format!(
            "{} of {} secrets were wrapped anew; all are under key {} now",
            done.rewrapped, done.total, done.key_id
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the data folder if need be, for its owner alone.
pub fn make_folder(folder: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| {
            Error::from(error)
                .while_(format!("making the data folder {}", folder.display()))
                .hint("choose another with --data-dir")
        })
}

/// Opens the metadata store, making the data folder if need be.
pub async fn open(args: &DataArgs) -> Result<Store> {
    make_folder(&args.data_dir)?;
    let keyring = Keyring::load(args.encryption_key.as_deref(), &args.data_dir)?;
    let url = match &args.database_url {
        Some(url) => url.clone(),
        None => {
            let file = std::path::absolute(args.data_dir.join("tideway.db"))?;
            format!("sqlite://{}", file.display())
        }
    };
    Store::open(&url, keyring).await
}

/// Makes sure of an organization, an owner and a key. A generated key is written to its
/// file before it is stored, so that a crash between the two cannot lose it.
async fn first_start(store: &Store, args: &ServeArgs) -> Result<()> {
    let file = args.data.data_dir.join(API_KEY_FILE);
    let key = match (&args.api_key, std::fs::read_to_string(&file)) {
        (Some(fixed), _) => {
            keep(&file, fixed)?;
            Secret::new(fixed.trim())
        }
        (None, Ok(kept)) => Secret::new(kept.trim()),
        (None, Err(_)) => {
            let key = tideway_store::keys::generate()?;
            keep(&file, key.expose())?;
            eprintln!(
                "A first API key was made. It is shown this once and kept in {}:\n  {}",
                file.display(),
                key.expose()
            );
            key
        }
    };
    store
        .bootstrap(&Bootstrap {
            organization_name: "Default organization".into(),
            owner_email: "owner@localhost".into(),
            owner_name: "Owner".into(),
            api_key: Some(key),
            deployment_key: args.deployment_key.as_deref().map(Secret::new),
        })
        .await?;
    Ok(())
}

/// Writes the key for its owner's eyes only.
fn keep(file: &Path, key: &str) -> Result<()> {
    let mut opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .map_err(|error| Error::from(error).while_(format!("writing {}", file.display())))?;
    writeln!(opened, "{}", key.trim())?;
    opened.sync_all()?;
    Ok(())
}

/// Ends on SIGTERM or SIGINT.
async fn stopped() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
