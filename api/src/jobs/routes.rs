//! Looking after jobs.

use axum::{Json, extract::State};
use serde::{Deserialize, de::IntoDeserializer};
use tideway_store as store;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::wire::{Job, JobKind, JobStatus};
use crate::{
    auth::Caller,
    body::{self, Path},
    envelope::{ApiError, Data},
    failures::ReadFailures,
    problem::{Answer, Problem},
    state::ApiState,
};

pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get))
}

/// Where a job stands, and what came of it.
#[utoipa::path(
    get, path = "/api/jobs/{type}/{id}", operation_id = "jobs.get", tag = "Jobs",
    params(("type" = JobKind, Path), ("id" = Uuid, Path)),
    responses(
        (status = 200, description = "the job", body = Data<Job>),
        (status = 400, description = "there is no such type of job", body = ApiError),
        ReadFailures,
    )
)]
async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path((kind, id)): Path<(String, String)>,
) -> Answer<Json<Data<Job>>> {
    let kind = JobKind::parse(&kind).ok_or_else(|| {
        Problem::bad_request(format!("there is no type of job {kind:?}")).with("field", "type")
    })?;
    let id = body::id(&id)?;
    let job = state
        .store()
        .jobs()
        .get(caller.organization()?, kind.word(), id)
        .await?;
    Ok(Json(Data::new(shown(job, kind))))
}

pub fn shown(stored: store::Job, kind: JobKind) -> Job {
    Job {
        error: stored.error,
        job_id: stored.id,
        result: stored.result,
        status: match stored.status {
            store::JobStatus::Created => JobStatus::Created,
            store::JobStatus::Running => JobStatus::Running,
            store::JobStatus::Done => JobStatus::Done,
            store::JobStatus::Failed => JobStatus::Failed,
        },
        kind,
    }
}

impl JobKind {
    pub fn parse(word: &str) -> Option<Self> {
        let word: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
            word.into_deserializer();
        JobKind::deserialize(word).ok()
    }

    pub fn word(self) -> &'static str {
        match self {
            JobKind::CreateModel => "createmodel",
            JobKind::UpdateModel => "updatemodel",
            JobKind::PreviewModel => "previewmodel",
            JobKind::SampleModel => "samplemodel",
            JobKind::ExportLogs => "exportlogs",
            JobKind::ConnectionProxy => "connectionproxy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for kind in [
            JobKind::CreateModel,
            JobKind::UpdateModel,
            JobKind::PreviewModel,
            JobKind::SampleModel,
            JobKind::ExportLogs,
            JobKind::ConnectionProxy,
        ] {
            assert_eq!(JobKind::parse(kind.word()), Some(kind));
        }
        assert_eq!(JobKind::parse("coffee"), None);
    }
}
