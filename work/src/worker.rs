//! Claims executions and runs them, one at a time.

use std::time::Duration;

use crate::Work;

/// How long to wait for work when none is announced.
const IDLE: Duration = Duration::from_secs(1);

pub async fn run(work: Work, number: usize) {
    let name = format!("{}-{number}", work.settings.name);
    let mut wake = work.store.wake();
    while !work.stop.is_cancelled() {
        match work.store.queue().claim(&name, work.settings.lease).await {
            Ok(Some(claim)) => work.carry_out(claim).await,
            Ok(None) => {
                tokio::select! {
                    () = wake.wait(IDLE) => {}
                    () = work.stop.cancelled() => return,
                }
            }
            Err(error) => {
                tracing::warn!(%error, "no execution could be claimed");
                work.pause(IDLE).await;
            }
        }
    }
}
