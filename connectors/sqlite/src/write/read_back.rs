//! Reads a staging table back and adds its rows up, a batch per turn, so that other loads
//! write in between.

use std::sync::Arc;

use tideway_core::{
    Column, Error, LogicalType, Result, Table, TableId, WriteMode,
    schema::TableKind,
    source::Read,
    sums::{Sums, is_compared, is_same_kept_as},
};

use super::{
    Writer,
    layout::{Landing, Layout},
    stage_name,
};
use crate::{
    connect::{Handle, blocking},
    discover,
    read::batch::{Progress, batch},
};

/// What the staged rows add up to.
pub async fn read_back(
    writer: &Writer,
    load_id: &str,
    layout: &Layout,
    batch_bytes: usize,
) -> Result<Sums> {
    let landings = layout.columns.iter().enumerate();
    let compared: Vec<(usize, &Landing)> = landings.filter(|(_, one)| is_told(one)).collect();
    let places: Vec<usize> = compared.iter().map(|(at, _)| *at).collect();
    let columns: Vec<Column> = compared
        .iter()
        .map(|(_, landing)| Column::new(&landing.name, landing.to))
        .collect();
    let types: Arc<[Option<LogicalType>]> =
        columns.iter().map(|column| Some(column.logical)).collect();
    let stage = stage_name(load_id);
    let read = Arc::new(Read {
        table: Table {
            id: TableId::new(None, &stage),
            columns: columns.clone(),
            primary_key: Vec::new(),
            row_estimate: None,
            byte_estimate: None,
            kind: TableKind::Table,
        },
        columns,
        tracking: None,
        mode: WriteMode::Snapshot,
        limit: None,
        lanes: 1,
        batch_bytes,
    });
    let turn = writer.turn().await;
    let number = blocking(move || row_number(&turn.0, &stage)).await?;
    let mut progress = Progress::start(number);
    let mut sums = Sums::new(places.len());
    while let Some(from) = progress.from {
        let turn = writer.turn().await;
        let (read, types) = (read.clone(), types.clone());
        let (piece, next) = blocking(move || {
            let (rows, next) = batch(&turn.0, &read, progress, from)?;
            drop(turn);
            let mut piece = Sums::new(types.len());
            piece.add_batch(&rows, &types)?;
            Ok((piece, next))
        })
        .await?;
        sums.join(&piece);
        progress = next;
    }
    Ok(sums.spread(&places, layout.columns.len()))
}

fn is_told(landing: &Landing) -> bool {
    is_compared(landing.from) && is_same_kept_as(landing.from, landing.to)
}

fn row_number(handle: &Handle, stage: &str) -> Result<String> {
    let number = discover::require(handle, stage)?.row_number();
    number.ok_or_else(|| Error::unsupported("the names of its columns hide the rows' numbers"))
}
