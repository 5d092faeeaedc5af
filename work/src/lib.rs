//! What goes on without a request: executions are claimed and run, schedules fire,
//! connections are checked, old records are cleared away. Several processes may do
//! this side by side on one metadata database; all are killable at any moment.

mod adopt;
pub mod catalog;
pub mod connect;
pub mod execution;
pub mod health;
mod ledger;
mod observe;
pub mod records;
pub mod schedule;
mod scheduler;
pub mod settings;
mod streams;
mod worker;

use std::time::Duration;

use tideway_store::{Retention, Store};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

pub use settings::WorkSettings;

const AFTER_PANIC: Duration = Duration::from_secs(1);

/// Handles a process needs to do the work.
#[derive(Clone)]
pub struct Work {
    pub store: Store,
    pub settings: WorkSettings,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Work {
    pub fn new(store: Store, settings: WorkSettings) -> Self {
        Work {
            store,
            settings,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Starts the workers, the scheduler, the health checks and the clearing.
    pub fn start(&self) {
        for number in 0..self.settings.workers {
            self.keep_up("worker", move |work| worker::run(work, number));
        }
        self.keep_up("scheduler", scheduler::run);
        self.keep_up("health", health::run);
        self.keep_up("streams", streams::run);
        self.keep_up("prune", prune);
    }

    /// Begins anew what a panic has ended: nobody else would do this work.
    fn keep_up<F>(&self, what: &'static str, run: impl Fn(Work) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let work = self.clone();
        self.tasks.spawn(async move {
            while let Err(error) = AbortOnDropHandle::new(tokio::spawn(run(work.clone()))).await {
                tracing::error!(what, %error, "stopped, and begins anew");
                if !work.pause(AFTER_PANIC).await {
                    return;
                }
            }
        });
    }

    /// Gives back what is being worked on, so that it goes on elsewhere or after the
    /// next start, and waits until all is quiet.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Sleeps, unless the process is stopping: then answers false.
    async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.stop.cancelled() => false,
        }
    }
}

async fn prune(work: Work) {
    loop {
        if let Err(error) = work.store.prune(&Retention::default()).await {
            tracing::warn!(%error, "old records were not cleared away");
        }
        if !work.pause(Duration::from_secs(600)).await {
            return;
        }
    }
}
