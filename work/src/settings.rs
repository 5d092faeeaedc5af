//! How this process works.

use std::{path::PathBuf, time::Duration};

use tideway_core::outbound::Outbound;

#[derive(Debug, Clone)]
pub struct WorkSettings {
    /// Names the process in leases and logs.
    pub name: String,
    /// Executions at once; 0 makes a process that only serves the API.
    pub workers: usize,
    /// Bytes of rows in flight per execution.
    pub memory: usize,
    /// A lease that is not renewed for this long is lost.
    pub lease: Duration,
    pub healthcheck_interval: Duration,
    /// How long one execution of a continuous sync follows a change stream.
    pub stream_period: Duration,
    pub data_dir: PathBuf,
    /// Which addresses connections may lead to.
    pub outbound: Outbound,
}

impl Default for WorkSettings {
    fn default() -> Self {
        WorkSettings {
            // The process for people, and what tells it from those on other machines.
            name: format!(
                "tideway-{}-{}",
                std::process::id(),
                &uuid::Uuid::new_v4().simple().to_string()[..8]
            ),
            workers: 2,
            memory: 64 << 20,
            lease: Duration::from_secs(30),
            healthcheck_interval: Duration::from_secs(300),
            stream_period: Duration::from_secs(300),
            data_dir: PathBuf::from(".tideway"),
            outbound: Outbound::default(),
        }
    }
}
