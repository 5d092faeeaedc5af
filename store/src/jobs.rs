//! Jobs: work that a request started and whose result is fetched later. They run in
//! the process that took the request.

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use tideway_core::Result;
use uuid::Uuid;

use crate::{
    Store, clock,
    db::{printable, values},
    row::Row,
    words::words,
};

words! {
    pub enum JobStatus {
        Created = "created",
        Running = "running",
        Done = "done",
        Failed = "failed",
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub id: Uuid,
    pub organization_id: Uuid,
    /// The HTTP API says `type`.
    pub kind: String,
    pub status: JobStatus,
    pub result: Option<Json>,
    pub error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

pub struct Jobs<'a>(pub(crate) &'a Store);

impl Jobs<'_> {
    pub async fn create(&self, organization: Uuid, kind: &str) -> Result<Job> {
        let row = self
            .0
            .db()
            .one(
                "job",
                "INSERT INTO jobs (id, organization_id, type, status, created_at, updated_at)
                 VALUES ($1, $2, $3, 'created', $4, $4) RETURNING *",
                values![Uuid::now_v7(), organization, kind, clock::now()],
            )
            .await?;
        job_of(&row)
    }

    /// Of a job that has not ended: it runs. Called again, it shows that it still does.
    pub async fn start(&self, id: Uuid) -> Result<()> {
        let sql = "UPDATE jobs SET status = 'running', updated_at = $2
                   WHERE id = $1 AND status IN ('created', 'running')";
        self.0.db().execute(sql, values![id, clock::now()]).await?;
        Ok(())
    }

    /// The first end counts.
    pub async fn finish(&self, id: Uuid, outcome: Result<Json, &str>) -> Result<()> {
        let (status, result, error) = match outcome {
            Ok(result) => (JobStatus::Done, Some(result.to_string()), None),
            Err(error) => (JobStatus::Failed, None, Some(printable(error))),
        };
        let sql = "UPDATE jobs SET status = $2, result = $3, error = $4, updated_at = $5
                   WHERE id = $1 AND status IN ('created', 'running')";
        self.0
            .db()
            .execute(sql, values![id, status, result, error, clock::now()])
            .await?;
        Ok(())
    }

    pub async fn get(&self, organization: Uuid, kind: &str, id: Uuid) -> Result<Job> {
        let sql = "SELECT * FROM jobs WHERE organization_id = $1 AND type = $2 AND id = $3";
        job_of(
            &self
                .0
                .db()
                .one("job", sql, values![organization, kind, id])
                .await?,
        )
    }

    /// Fails jobs that have shown no life since `before`: their process is gone.
    pub async fn abandon(&self, before: DateTime<Utc>) -> Result<u64> {
        let sql = "UPDATE jobs SET status = 'failed', error = 'the server was restarted',
                     updated_at = $2
                   WHERE updated_at < $1 AND status IN ('created', 'running')";
        self.0
            .db()
            .execute(sql, values![before, clock::now()])
            .await
    }
}

fn job_of(row: &Row) -> Result<Job> {
    Ok(Job {
        id: row.id("id")?,
        organization_id: row.id("organization_id")?,
        kind: row.text("type")?,
        status: row.word("status")?,
        result: row.maybe_json("result")?,
        error: row.maybe_text("error")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
