//! What every handler can reach.

use std::{ops::Deref, sync::Arc};

use metrics_exporter_prometheus::PrometheusHandle;
use tideway_store::Store;
use tideway_work::Work;

/// How the API presents itself.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// Address under which clients reach the server, without a slash at the end.
    pub public_url: String,
    /// Largest body of a request, in bytes.
    pub body_limit: usize,
}

#[derive(Clone)]
pub struct ApiState(Arc<Inner>);

pub struct Inner {
    pub work: Work,
    pub settings: ApiSettings,
    pub metrics: PrometheusHandle,
}

impl ApiState {
    pub fn new(work: Work, settings: ApiSettings, metrics: PrometheusHandle) -> Self {
        ApiState(Arc::new(Inner {
            work,
            settings,
            metrics,
        }))
    }

    pub fn store(&self) -> &Store {
        &self.0.work.store
    }
}

impl Deref for ApiState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
