//! The command line, as clap reads it.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tideway_core::outbound::{self, IpNet};

/// Moves data between databases, files and apps.
#[derive(Parser)]
#[command(name = "tideway", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// Print results as JSON.
    #[arg(long, global = true)]
    pub json: bool,

    /// What to log: a level, or `module=level,…`.
    #[arg(
        long,
        global = true,
        env = "TIDEWAY_LOG",
        default_value = "warn,tideway=info"
    )]
    pub log: String,

    #[arg(
        long,
        global = true,
        env = "TIDEWAY_LOG_FORMAT",
        value_enum,
        default_value = "text"
    )]
    pub log_format: LogFormat,

    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    everything went well
  1    some tables or checks failed, the others are done; tables differ (verify)
  2    a setting, flag or URL is wrong, or the thing is not supported
  3    signing in failed or a right is missing
  4    something that was named does not exist
  5    the other side cannot be reached or does not answer
  6    no room left on a disk
  7    a value or a changed table stopped the work
  70   a bug in Tideway
  130  canceled";

#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the server: HTTP API, scheduler and workers in one process.
    Serve(ServeArgs),
    /// Copy tables from one place to another, without a server.
    Copy(CopyArgs),
    /// Compare tables on two sides and name the rows that differ; nothing is written.
    Verify(VerifyArgs),
    /// Try out a connection, step by step.
    Check(UrlArgs),
    /// List the tables and fields of a connection.
    Discover(DiscoverArgs),
    /// Show the main job on sample data against a running server.
    Demo(DemoArgs),
    /// Print the OpenAPI document of the HTTP API.
    Openapi,
    /// Print the connection types with their forms.
    ConnectionTypes,
    /// Manage the encryption key of stored secrets.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Look for what could keep Tideway from working here.
    Doctor(DataArgs),
}

#[derive(Subcommand)]
pub enum KeyCommand {
    /// Encrypt every stored secret anew with the first key of `TIDEWAY_ENCRYPTION_KEY`.
    Rotate(DataArgs),
}

/// Where the metadata lives.
#[derive(Args, Clone)]
pub struct DataArgs {
    /// Folder of the embedded database, the key file and logs.
    #[arg(long, env = "TIDEWAY_DATA_DIR", default_value = ".tideway")]
    pub data_dir: PathBuf,

    /// `postgresql://…` to share the metadata between processes; by default an embedded
    /// SQLite file in the data folder.
    #[arg(long, env = "TIDEWAY_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// 32 bytes in base64 or hex; several, parted by commas, while keys are rotated. By
    /// default a key file in the data folder.
    #[arg(long, env = "TIDEWAY_ENCRYPTION_KEY", hide_env_values = true)]
    pub encryption_key: Option<String>,
}

#[derive(Args, Clone)]
pub struct ServeArgs {
    #[command(flatten)]
    pub data: DataArgs,

    #[arg(long, env = "TIDEWAY_LISTEN", default_value = "127.0.0.1:5555")]
    pub listen: SocketAddr,

    /// The address under which clients reach the server, for links in answers.
    #[arg(long, env = "TIDEWAY_PUBLIC_URL")]
    pub public_url: Option<String>,

    /// API key of the first user, instead of a generated one.
    #[arg(long, env = "TIDEWAY_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,

    /// Key that may act for every organization.
    #[arg(long, env = "TIDEWAY_DEPLOYMENT_KEY", hide_env_values = true)]
    pub deployment_key: Option<String>,

    /// How many executions this process runs at once.
    #[arg(long, env = "TIDEWAY_WORKERS", default_value_t = 2)]
    pub workers: usize,

    /// Rows in flight per execution, in MiB.
    #[arg(long, env = "TIDEWAY_MEMORY_MIB", default_value_t = 64)]
    pub memory_mib: usize,

    /// A worker that does not report for this long loses its execution to another.
    #[arg(long, env = "TIDEWAY_LEASE_SECONDS", default_value_t = 30)]
    pub lease_seconds: u64,

    /// How often connections are checked.
    #[arg(long, env = "TIDEWAY_HEALTHCHECK_SECONDS", default_value_t = 300)]
    pub healthcheck_seconds: u64,

    /// How long one execution of a continuous sync follows a change stream.
    #[arg(long, env = "TIDEWAY_STREAM_SECONDS", default_value_t = 300)]
    pub stream_seconds: u64,

    /// Largest request body, in MiB.
    #[arg(long, env = "TIDEWAY_BODY_LIMIT_MIB", default_value_t = 10)]
    pub body_limit_mib: usize,

    /// Which addresses connections may lead to. Link-local and cloud-metadata addresses are
    /// always refused.
    #[arg(long, env = "TIDEWAY_OUTBOUND", value_enum, default_value_t = OutboundMode::PrivateToo)]
    pub outbound: OutboundMode,

    /// A network that connections may lead to with `public-only` as well, such as 10.1.0.0/16;
    /// may be given several times, or parted by commas.
    #[arg(long, env = "TIDEWAY_OUTBOUND_ALLOW", value_delimiter = ',', value_parser = outbound::network)]
    pub outbound_allow: Vec<IpNet>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutboundMode {
    /// Private networks and this machine as well.
    PrivateToo,
    /// For deployments that take connections from strangers.
    PublicOnly,
}

#[derive(Args)]
pub struct UrlArgs {
    /// `postgresql://…`, `sqlite:///file`, `duckdb:///file`, `file:///folder?format=parquet`,
    /// `s3://bucket/prefix?format=csv`, `https://…/file.csv`
    pub url: String,
}

#[derive(Args)]
pub struct DiscoverArgs {
    /// The connection, as for `tideway check`.
    pub url: String,
    /// Only this schema; may be repeated.
    #[arg(long)]
    pub schema: Vec<String>,
}

#[derive(Args)]
pub struct CopyArgs {
    /// Where to read, as for `tideway check`.
    pub source: String,
    /// Where to write; `?schema=name` chooses the schema.
    pub destination: String,
    /// Only this table (`schema.table`); may be repeated.
    #[arg(long)]
    pub table: Vec<String>,
    /// Only tables of this schema; may be repeated.
    #[arg(long)]
    pub schema: Vec<String>,
    /// How rows are written: `snapshot` replaces the tables, `replicate` merges by primary
    /// key and marks rows that are gone, `append` adds.
    #[arg(long, value_parser = ["replicate", "snapshot", "append"], default_value = "snapshot")]
    pub mode: String,
    /// Remove rows that are gone instead of marking them (`replicate`).
    #[arg(long)]
    pub hard_deletes: bool,
    /// Keep the schemas of the source instead of writing into one.
    #[arg(long)]
    pub mirror_schemas: bool,
    /// Leave out the columns for created and updated times.
    #[arg(long)]
    pub no_record_timestamps: bool,
    /// Keep the source's spelling of names as far as the destination can hold it.
    #[arg(long)]
    pub keep_names: bool,
    /// Rows in flight, in MiB.
    #[arg(long, default_value_t = 64)]
    pub memory_mib: usize,
    /// Parallel lanes; by default as many as there are cores, at most 8.
    #[arg(long)]
    pub lanes: Option<usize>,
    /// Read five records of each table and write nothing.
    #[arg(long)]
    pub test: bool,
    /// Do not read back what was written and compare it with what was read, which is done
    /// before a table changes hands, where the destination can be read back.
    #[arg(long)]
    pub no_verify: bool,
}

#[derive(Args)]
pub struct VerifyArgs {
    /// Where the rows come from, as for `tideway check`.
    pub source: String,
    /// Where they should be; `?schema=name` chooses the schema.
    pub destination: String,
    /// Only this table (`schema.table`, or `schema.table=schema.table` where it is called
    /// otherwise at the destination); may be repeated. By default all tables of the source.
    #[arg(long)]
    pub table: Vec<String>,
    /// Columns that tell rows apart, parted by commas; by default the primary key.
    #[arg(long, value_delimiter = ',')]
    pub key: Vec<String>,
    /// Leave this column out; may be repeated.
    #[arg(long)]
    pub without: Vec<String>,
    /// Name at most so many rows that differ, of each table.
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// Parts read at once, of each side.
    #[arg(long, default_value_t = 2)]
    pub lanes: usize,
}

#[derive(Args)]
pub struct DemoArgs {
    #[arg(long, env = "TIDEWAY_URL", default_value = "http://127.0.0.1:5555")]
    pub server: String,

    /// The server's data folder, where its API key is kept.
    #[arg(long, env = "TIDEWAY_DATA_DIR", default_value = ".tideway")]
    pub data_dir: PathBuf,

    #[arg(long, env = "TIDEWAY_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,

    /// Rows of the sample database, all tables together.
    #[arg(long, default_value_t = 100_000)]
    pub rows: usize,
}
