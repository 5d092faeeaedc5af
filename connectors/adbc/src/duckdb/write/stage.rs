//! The staging table and the lanes that fill it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use tideway_core::{
    Batch, Column, Error, LogicalType, Result,
    destination::{Accepted, DELETED_AT, Durable, Lane},
    failpoint,
};

use super::{
    Plan, encode,
    target::{self, named},
    tokens, transaction,
};
use crate::{
    duckdb::{
        VECTOR_ROWS,
        discover::{self, Described, Found},
        file::File,
        rows,
        sql::{self, Place},
        types,
    },
    session::{IngestTable, Session},
};

/// Numbers the staged rows in the order of their arrival, to tell which of two with the
/// same key came last.
pub const ROW: &str = "_tideway_row";
/// The code of a change's operation. A row with [`PART_END`] for it ends a part, whose id
/// stands where others say what they keep.
pub const OP: &str = "_tideway_op";
pub const PART_END: u8 = 9;
/// A digit for each column that arrives, which says whether the change keeps what is there;
/// null where it keeps nothing.
pub const KEPT: &str = "_tideway_kept";

/// What the staging table looks like. Where it may become the table itself, it has the
/// table's columns; otherwise just those that the rows bring.
#[derive(Debug, Clone, Default)]
pub struct Stage {
    pub columns: Vec<StageColumn>,
    next_row: Arc<AtomicI64>,
}

#[derive(Debug, Clone)]
pub struct StageColumn {
    pub name: String,
    pub data_type: String,
    pub comment: Option<String>,
    pub fill: Fill,
}

/// Where a staged value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// The column of that index among those that arrive.
    Data(usize),
    Null,
    /// The time at which the row is staged.
    Now,
    /// The row's number.
    Row,
    /// The code of the row's operation.
    Op,
    /// What the row keeps.
    Kept,
}

impl Stage {
    pub fn layout(plan: &Plan, present: Option<&[Described]>) -> Stage {
        let old = present.unwrap_or_default();
        let mut columns: Vec<StageColumn> = plan
            .load
            .target
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let comment = named(old, &column.name).and_then(|old| old.comment.as_deref());
                StageColumn::of(column, comment, Fill::Data(index))
            })
            .collect();
        if plan.takes_changes() {
            let code = Column::new(OP, LogicalType::Int16);
            let kept = Column::new(KEPT, LogicalType::Text);
            columns.push(StageColumn::of(&code, None, Fill::Op));
            columns.push(StageColumn::of(&kept, None, Fill::Kept));
        } else if present.is_none() || !plan.keeps_table() {
            columns.extend(plan.extras(old).into_iter().map(|column| StageColumn {
                name: column.name.clone(),
                data_type: column.data_type.clone(),
                comment: column.comment.clone(),
                fill: Fill::Null,
            }));
            columns.extend(plan.load.system_columns().into_iter().map(|name| {
                let fill = if name == DELETED_AT {
                    Fill::Null
                } else {
                    Fill::Now
                };
                StageColumn::of(&target::system_column(name), None, fill)
            }));
        }
        if plan.merges() || plan.takes_changes() {
            let number = Column::new(ROW, LogicalType::Int64);
            columns.push(StageColumn::of(&number, None, Fill::Row));
        }
        Stage {
            columns,
            next_row: Arc::default(),
        }
    }

    /// Numbers rows from where an earlier attempt stopped.
    pub async fn go_on(&self, session: &Session, place: &Place) -> Result<()> {
        if self.columns.iter().any(|column| column.fill == Fill::Row) {
            let last = format!("SELECT (max({ROW}) + 1)::BIGINT FROM {}", place.sql());
            let next = rows::number(&session.fetch(last).await?)?;
            self.next_row.store(next, Relaxed);
        }
        Ok(())
    }

    fn definition(&self) -> String {
        sql::list(&self.columns, |column| {
            format!("{} {}", sql::name(&column.name), column.data_type)
        })
    }
}

impl StageColumn {
    fn of(column: &Column, comment: Option<&str>, fill: Fill) -> StageColumn {
        let stored = types::stored(column.logical, &column.remote_type);
        StageColumn {
            name: column.name.clone(),
            comment: types::comment(comment, stored.mark.as_deref()),
            data_type: stored.sql,
            fill,
        }
    }
}

/// Whether the staging table of an earlier attempt is there and fits.
pub async fn is_laid_out(session: &Session, place: &Place, stage: &Stage) -> Result<bool> {
    let Found::Table(present) = discover::find(session, place).await? else {
        return Ok(false);
    };
    let fits = |(found, wanted): (&Described, &StageColumn)| {
        found.name == wanted.name && found.data_type == wanted.data_type
    };
    Ok(present.len() == stage.columns.len() && present.iter().zip(&stage.columns).all(fits))
}

/// Makes the staging table anew, without any rows or tokens of earlier attempts.
pub async fn renew(session: &Session, plan: &Plan, stage: &Stage) -> Result<()> {
    let place = plan.stage.sql();
    let mut statements = removal(plan);
    statements.push(format!("CREATE TABLE {place} ({})", stage.definition()));
    statements.extend(stage.columns.iter().filter_map(|column| {
        target::comment_on(&place, &column.name, None, column.comment.as_deref())
    }));
    transaction(session, statements).await
}

pub fn removal(plan: &Plan) -> Vec<String> {
    vec![
        format!("DROP TABLE IF EXISTS {}", plan.stage.sql()),
        tokens::removal(plan),
    ]
}

/// One lane: a session whose transaction holds the rows of one part.
pub struct StageLane {
    file: Arc<File>,
    /// Sees what others have committed, where this lane's transaction may be too old to.
    outside: Arc<Session>,
    session: Session,
    stage: Stage,
    place: Place,
    tokens: Place,
    load_id: String,
    /// Indexes of the key columns of changes; nothing where whole rows come.
    key: Option<Arc<[usize]>>,
    part: Option<OpenPart>,
}

/// The transaction of a part that is being written.
struct OpenPart {
    /// Rows that the staging table showed when it began.
    before: i64,
    written: u64,
}

impl StageLane {
    pub async fn new(
        file: Arc<File>,
        outside: Arc<Session>,
        plan: &Plan,
        stage: Stage,
    ) -> Result<StageLane> {
        Ok(StageLane {
            outside,
            session: file.session().await?,
            file,
            stage,
            place: plan.stage.clone(),
            tokens: plan.tokens.clone(),
            load_id: plan.load.id.clone(),
            key: plan.takes_changes().then(|| plan.key_places().into()),
            part: None,
        })
    }

    async fn count(&self) -> Result<i64> {
        let count = format!("SELECT count(*)::BIGINT FROM {}", self.place.sql());
        rows::number(&self.session.fetch(count).await?)
    }

    async fn open(&mut self) -> Result<()> {
        if self.part.is_none() {
            self.session.execute("BEGIN TRANSACTION").await?;
            self.part = Some(OpenPart {
                before: self.count().await?,
                written: 0,
            });
        }
        Ok(())
    }

    async fn ingest(&self, rows: RecordBatch) -> Result<()> {
        let table = IngestTable {
            catalog: self.place.catalog.clone(),
            namespace: self.place.namespace.clone(),
            name: self.place.table.clone(),
            slice_rows: VECTOR_ROWS,
        };
        self.session.ingest(table, rows).await?;
        Ok(())
    }

    async fn land(&self, part_id: &str, part: &OpenPart) -> Result<()> {
        let staged = self.count().await?;
        // The driver has been seen to swallow errors of an append.
        if u64::try_from(staged - part.before) != Ok(part.written) {
            return Err(Error::data(format!(
                "part {part_id}: DuckDB took {} of {} rows",
                staged - part.before,
                part.written
            )));
        }
        if self.key.is_some() {
            let number = self.stage.next_row.fetch_add(1, Relaxed);
            let (stage, id) = (self.place.sql(), sql::text(part_id));
            let end = format!(
                "INSERT INTO {stage} ({ROW}, {OP}, {KEPT}) VALUES ({number}, {PART_END}, {id})"
            );
            self.session.execute(end).await?;
        }
        let token = tokens::insertion(&self.tokens, &self.load_id, part_id, part.written);
        self.session.execute(token).await?;
        self.session.execute("COMMIT").await?;
        Ok(())
    }
}

#[async_trait]
impl Lane for StageLane {
    async fn write(&mut self, batch: Batch) -> Result<Accepted> {
        self.open().await?;
        let rows = batch.row_count();
        let count = i64::try_from(rows).map_err(|_| Error::bug("a batch is too long"))?;
        let first_row = self.stage.next_row.fetch_add(count, Relaxed);
        let (columns, key) = (self.stage.columns.clone(), self.key.clone());
        let encoded = tokio::task::spawn_blocking(move || {
            encode::encode(&columns, &batch, first_row, key.as_deref())
        })
        .await
        .unwrap_or_else(|error| Err(Error::bug(format!("encoding rows stopped: {error}"))))?;
        if rows > 0 {
            self.ingest(encoded.rows).await?;
        }
        if let Some(part) = &mut self.part {
            part.written += rows as u64;
        }
        Ok(Accepted {
            notes: encoded.notes,
        })
    }

    async fn commit(&mut self, part_id: &str) -> Result<Durable> {
        self.open().await?;
        let Some(part) = self.part.take() else {
            return Err(Error::bug("no part is open"));
        };
        let file = self.file.clone();
        let _gate = file.gate().await;
        let landed =
            match tokens::is_there(&self.outside, &self.tokens, &self.load_id, part_id).await? {
                true => self.session.execute("ROLLBACK").await.map(drop),
                false => self.land(part_id, &part).await,
            };
        if let Err(error) = landed {
            let _ = self.session.execute("ROLLBACK").await;
            return Err(error);
        }
        failpoint::reach("duckdb.landed");
        Ok(Durable { rows: part.written })
    }
}
