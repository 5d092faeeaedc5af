//! Values whose Arrow form only the server knows how to make: arrays as JSON, types that
//! we have no decoder for. A snapshot casts them while it reads; the stream tells them as
//! they are, so they are sent back to the server, through the same cast, many at once.

use std::{collections::HashMap, error::Error as StdError, fmt};

use bytes::BytesMut;
use futures::future::try_join_all;
use tideway_core::{Error, Result};
use tokio_postgres::{
    Statement,
    types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked},
};

use crate::{
    connect::{Session, explain},
    types::Cast,
};

/// Values per statement: a round trip and a plan are shared by so many.
const WIDTH: usize = 32;

/// A value as it was told.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    pub bytes: &'a [u8],
    pub binary: bool,
}

impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
}

impl ToSql for Raw<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(self.bytes);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        if self.binary {
            Format::Binary
        } else {
            Format::Text
        }
    }

    to_sql_checked!();
}

/// A session that casts values.
pub struct Converter {
    session: Session,
    statements: HashMap<(u32, Cast), Statement>,
}

impl Converter {
    pub fn new(session: Session) -> Converter {
        Converter {
            session,
            statements: HashMap::new(),
        }
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The values, all of one type, through the cast.
    pub async fn convert(
        &mut self,
        type_oid: u32,
        cast: Cast,
        values: &[Raw<'_>],
    ) -> Result<Vec<Option<String>>> {
        let statement = self.statement(type_oid, cast).await?;
        let session = &self.session;
        let asked = values.chunks(WIDTH).map(|chunk| {
            let statement = &statement;
            async move {
                let mut parameters: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(WIDTH);
                parameters.extend(chunk.iter().map(|raw| raw as &(dyn ToSql + Sync)));
                parameters.resize(WIDTH, &None::<Raw<'_>>);
                let row = session.query_one(statement, &parameters).await;
                let row = row.map_err(explain)?;
                let texts = (0..chunk.len()).map(|at| row.try_get(at).map_err(explain));
                texts.collect::<Result<Vec<Option<String>>>>()
            }
        });
        let answers = try_join_all(asked).await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn statement(&mut self, type_oid: u32, cast: Cast) -> Result<Statement> {
        if let Some(statement) = self.statements.get(&(type_oid, cast)) {
            return Ok(statement.clone());
        }
        let casts: Vec<String> = (1..=WIDTH)
            .map(|at| cast.expression(&format!("${at}")))
            .collect();
        let sql = format!("SELECT {}", casts.join(", "));
        let of = Type::new("value".into(), type_oid, Kind::Simple, String::new());
        let prepared = self.session.prepare_typed(&sql, &vec![of; WIDTH]).await;
        let statement = prepared.map_err(explain)?;
        if statement.params().len() != WIDTH {
            return Err(Error::bug("the server counts parameters in another way"));
        }
        self.statements.insert((type_oid, cast), statement.clone());
        Ok(statement)
    }
}
