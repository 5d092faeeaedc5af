//! Reading by a tracking field: the highest value is found when the read is planned,
//! rows below the cursor are left out while reading.
//!
//! A file's rows are there all at once, so there are no late ones as in a database: the
//! next run begins at the highest value of this one.

use arrow_array::{Array, ArrayRef, BooleanArray, Scalar, cast::AsArray, types::Float64Type};
use arrow_cast::cast;
use arrow_ord::cmp;
use arrow_row::{OwnedRow, RowConverter, SortField};
use arrow_schema::DataType;
use arrow_select::filter::filter_record_batch;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, statistics::StatisticsConverter};
use tideway_core::{
    Batch, Column, Cursor, Error, LogicalType, Mark, Result,
    source::{Read, Tracking},
};
use tokio::runtime::Handle;

use crate::{
    connection::Shared,
    discover::dialect,
    format::{Format, Wanted, cells::Cells, parquet::footer, print::Printer},
    place::{Place, blocking},
    read::{FileReader, Slice},
    types,
};

const SLICES_AT_ONCE: usize = 4;

fn arrow(error: arrow_schema::ArrowError) -> Error {
    Error::bug(format!("comparing the tracking field: {error}"))
}

pub fn tracking_column<'a>(read: &'a Read, name: &str) -> Result<&'a Column> {
    let column = read.table.column(name).ok_or_else(|| {
        Error::missing(format!("{}: there is no field {name}", read.table.id))
            .field("tracking_field")
    })?;
    use LogicalType as L;
    match column.logical {
        L::Boolean | L::Json | L::Binary | L::Interval | L::Numeric => {
            Err(Error::unsupported(format!(
                "{name} is {:?}, which has no order to read by",
                column.logical
            ))
            .field("tracking_field")
            .hint("choose a number, a date or a timestamp that grows"))
        }
        _ => Ok(column),
    }
}

fn value_of(text: &str, column: &Column) -> Result<ArrayRef> {
    let mut cells = Cells::new(column.logical);
    if !cells.push(text) {
        return Err(Error::drift(format!(
            "the remembered value of {} is no {:?} any more",
            column.name, column.logical
        ))
        .hint("start the sync with a resync"));
    }
    Ok(cells.finish())
}

/// Keeps rows at or above the cursor.
pub struct Above {
    column: String,
    from: Scalar<ArrayRef>,
}

impl Above {
    /// `None` where everything is read.
    pub fn of(read: &Read) -> Result<Option<Self>> {
        let Some(tracking) = &read.tracking else {
            return Ok(None);
        };
        let Some(from) = tracking
            .cursor
            .as_ref()
            .and_then(|cursor| cursor.from.as_ref())
        else {
            return Ok(None);
        };
        let column = tracking_column(read, &tracking.column)?;
        Ok(Some(Above {
            column: column.name.clone(),
            from: Scalar::new(value_of(from, column)?),
        }))
    }

    pub fn keep(&self, batch: Batch) -> Result<Batch> {
        let column = batch
            .rows
            .column_by_name(&self.column)
            .ok_or_else(|| Error::bug("the tracking field is not among the columns read"))?;
        let keep = cmp::gt_eq(column, &self.from).map_err(arrow)?;
        let rows = filter_record_batch(&batch.rows, &keep).map_err(arrow)?;
        Ok(Batch { rows, ..batch })
    }
}

/// The highest value met so far.
struct Highest {
    converter: RowConverter,
    best: Option<OwnedRow>,
}

impl Highest {
    fn new(logical: LogicalType) -> Result<Self> {
        let field = SortField::new(logical.arrow());
        Ok(Highest {
            converter: RowConverter::new(vec![field]).map_err(arrow)?,
            best: None,
        })
    }

    fn take(&mut self, array: &ArrayRef) -> Result<()> {
        // NaN would be above everything and end the reading for ever.
        let numbers = match array.data_type() {
            DataType::Float32 | DataType::Float64 => {
                Some(cast(array, &DataType::Float64).map_err(arrow)?)
            }
            _ => None,
        };
        let is_nan = |row: usize| {
            let numbers = numbers.as_ref();
            numbers.is_some_and(|n| n.as_primitive::<Float64Type>().value(row).is_nan())
        };
        let rows = self
            .converter
            .convert_columns(std::slice::from_ref(array))
            .map_err(arrow)?;
        for (row, value) in rows.iter().enumerate() {
            let above = self.best.as_ref().is_none_or(|best| value > best.row());
            if above && array.is_valid(row) && !is_nan(row) {
                self.best = Some(value.owned());
            }
        }
        Ok(())
    }

    fn value(&self) -> Result<Option<ArrayRef>> {
        let Some(best) = &self.best else {
            return Ok(None);
        };
        let columns = self.converter.convert_rows([best.row()]).map_err(arrow)?;
        Ok(columns.into_iter().next())
    }
}

/// The cursor for the next run. Takes the row groups that have nothing at or above the
/// cursor of this run out of `slices`, and slices that have nothing left.
pub async fn advance(
    shared: &std::sync::Arc<Shared>,
    place: &Place,
    read: &Read,
    tracking: &Tracking,
    bundles: &mut [Vec<Slice>],
) -> Result<Cursor> {
    let column = tracking_column(read, &tracking.column)?.clone();
    let prior = tracking
        .cursor
        .as_ref()
        .and_then(|cursor| cursor.from.clone());
    let known: Vec<String> = read.table.columns.iter().map(|c| c.name.clone()).collect();
    let mut tops = Vec::new();
    for slices in bundles {
        let looked: Vec<(Option<Slice>, Option<ArrayRef>)> = stream::iter(std::mem::take(slices))
            .map(|slice| {
                let look = Look {
                    shared: shared.clone(),
                    place: place.clone(),
                    column: column.clone(),
                    known: known.clone(),
                    prior: prior.clone(),
                    batch_bytes: read.batch_bytes,
                };
                blocking(move || look.at(slice))
            })
            .buffered(SLICES_AT_ONCE)
            .try_collect()
            .await?;
        for (slice, top) in looked {
            slices.extend(slice);
            tops.extend(top);
        }
    }
    cursor(&column, prior, &mut || Ok(tops.pop()))
}

/// The cursor behind the highest of all values that `next` gives and of `prior`, where
/// this run begins.
pub fn cursor(
    column: &Column,
    prior: Option<String>,
    next: &mut dyn FnMut() -> Result<Option<ArrayRef>>,
) -> Result<Cursor> {
    let at = chrono::Utc::now().timestamp_micros();
    let mut highest = Highest::new(column.logical)?;
    if let Some(prior) = &prior {
        highest.take(&value_of(prior, column)?)?;
    }
    while let Some(values) = next()? {
        highest.take(&values)?;
    }
    let value = match highest.value()? {
        Some(value) => {
            let mut text = Vec::new();
            Printer::new(&value, column.logical)?.print(0, &mut text);
            Some(String::from_utf8_lossy(&text).into_owned())
        }
        None => prior,
    };
    Ok(Cursor {
        column: column.name.clone(),
        from: value.clone(),
        marks: value.map(|value| Mark { at, value }).into_iter().collect(),
        boundary: Vec::new(),
    })
}

struct Look {
    shared: std::sync::Arc<Shared>,
    place: Place,
    column: Column,
    known: Vec<String>,
    prior: Option<String>,
    batch_bytes: usize,
}

impl Look {
    /// What of the slice has to be read, and the highest value in it.
    fn at(&self, mut slice: Slice) -> Result<(Option<Slice>, Option<ArrayRef>)> {
        let file = slice.file()?;
        if file.format == Format::Parquet {
            let name = self.place.relative(&file.object.path);
            let source = self.place.open_ranges(&file.object, &Handle::current())?;
            let metadata = footer(&source, &name)?;
            if let Some(tops) = tops(&metadata, &self.column)? {
                let chosen: Vec<usize> = match slice.groups() {
                    Some(groups) => groups.to_vec(),
                    None => (0..metadata.metadata().num_row_groups()).collect(),
                };
                let (left, top) = self.by_statistics(&tops, &chosen)?;
                if left.is_empty() && !chosen.is_empty() {
                    return Ok((None, top));
                }
                if left.len() < chosen.len() {
                    slice.keep_groups(left);
                }
                if tops.exact {
                    return Ok((Some(slice), top));
                }
            }
        }
        let mut highest = Highest::new(self.column.logical)?;
        let wanted = Wanted {
            columns: vec![self.column.clone()],
            known: self.known.clone(),
            batch_bytes: self.batch_bytes,
            own: false,
        };
        let dialect = dialect(&self.shared.layout, &self.place, &file);
        let reader = FileReader::open(&self.place, &file, slice.groups(), dialect, &wanted);
        let looks = &self.shared.looks;
        let mut reader = reader.inspect_err(|error| looks.note(error, &file.object))?;
        while let Some(batch) = reader
            .next()
            .inspect_err(|error| looks.note(error, &file.object))?
        {
            highest.take(batch.rows.column(0))?;
        }
        Ok((Some(slice), highest.value()?))
    }

    fn by_statistics(
        &self,
        tops: &Tops,
        chosen: &[usize],
    ) -> Result<(Vec<usize>, Option<ArrayRef>)> {
        let mut highest = Highest::new(self.column.logical)?;
        let above: Option<BooleanArray> = match &self.prior {
            Some(prior) => {
                let from = Scalar::new(value_of(prior, &self.column)?);
                Some(cmp::gt_eq(&tops.values, &from).map_err(arrow)?)
            }
            None => None,
        };
        let mut left = Vec::new();
        for &group in chosen {
            highest.take(&tops.values.slice(group, 1))?;
            let reaches = above
                .as_ref()
                .is_none_or(|above| above.is_null(group) || above.value(group));
            // A group without any value has nothing for a run that begins somewhere.
            let empty = self.prior.is_some() && tops.values.is_null(group) && tops.exact;
            if reaches && !empty {
                left.push(group);
            }
        }
        Ok((left, highest.value()?))
    }
}

/// The highest value of each row group by the file's statistics.
struct Tops {
    values: ArrayRef,
    /// The values occur in the file, and groups without one have only nulls.
    exact: bool,
}

fn tops(metadata: &ArrowReaderMetadata, column: &Column) -> Result<Option<Tops>> {
    let schema = metadata.schema();
    let Ok(field) = schema.field_with_name(&column.name) else {
        return Ok(None);
    };
    let field = std::sync::Arc::new(field.clone());
    let groups = metadata.metadata().row_groups();
    let converter = StatisticsConverter::try_new(&column.name, schema, metadata.parquet_schema());
    let Ok(converter) = converter else {
        return Ok(None);
    };
    let (Ok(found), Ok(exact), Ok(nulls)) = (
        converter.row_group_maxes(groups),
        converter.row_group_is_max_value_exact(groups),
        converter.row_group_null_counts(groups),
    ) else {
        return Ok(None);
    };
    let adopted = types::adopt(&found, &field, &mut Vec::new())?;
    let values = types::widen(
        &adopted,
        types::logical_of(&field),
        column.logical,
        &column.name,
    )?;
    // Texts may be cut short in statistics, and floats leave NaN out of account.
    let is_text = matches!(
        field.data_type(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    let exact = groups.iter().enumerate().all(|(index, group)| {
        let all_null = nulls.is_valid(index) && nulls.value(index) == group.num_rows() as u64;
        let told = exact.is_valid(index) && exact.value(index);
        match values.is_null(index) {
            true => all_null,
            false => told || !is_text,
        }
    });
    Ok(Some(Tops { values, exact }))
}
