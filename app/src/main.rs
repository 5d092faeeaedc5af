//! `tideway`: moves data in and out. One binary, every command.

mod check;
mod cli;
mod copy;
mod demo;
mod discover;
mod doctor;
mod exit;
mod openapi;
mod print;
mod serve;
mod verify;

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;

use cli::{Cli, Command, KeyCommand};
use tideway_core::{Error, Result};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = log(&cli) {
        return exit::failure(&error, cli.json);
    }
    // Before any thread is started: which TLS library everything uses.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return exit::failure(&error.into(), cli.json),
    };
    let json = cli.json;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(args).await,
            Command::Copy(args) => copy::run(args, json).await,
            Command::Verify(args) => verify::run(args, json).await,
            Command::Check(args) => check::run(args, json).await,
            Command::Discover(args) => discover::run(args, json).await,
            Command::Demo(args) => demo::run(args, json).await,
            Command::Openapi => openapi::run(),
            Command::ConnectionTypes => discover::connection_types(json),
            Command::Key {
                command: KeyCommand::Rotate(args),
            } => serve::rotate(args, json).await,
            Command::Doctor(args) => doctor::run(args, json).await,
        }
    });
    match result {
        Ok(code) => code,
        Err(error) => exit::failure(&error, json),
    }
}

/// Logs go to standard error, so that results can be piped.
fn log(cli: &Cli) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&cli.log).map_err(|error| {
        Error::config(format!("--log: {error}"))
            .hint("give a level such as info, or module=level,… (TIDEWAY_LOG)")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match cli.log_format {
        cli::LogFormat::Text => builder.init(),
        cli::LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
