//! Wire types of `/api/jobs/{type}/{id}`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

/// Work that goes on after its request was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Why it failed.
    pub error: Option<String>,
    pub job_id: Uuid,
    /// What came of it, once it is done; its form depends on the type.
    #[schema(value_type = Value)]
    pub result: Option<Value>,
    pub status: JobStatus,
    #[serde(rename = "type")]
    pub kind: JobKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    Created,
    Running,
    Done,
    Failed,
}

/// The sorts of jobs. Another one in the path is a 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    CreateModel,
    UpdateModel,
    PreviewModel,
    SampleModel,
    ExportLogs,
    ConnectionProxy,
}
