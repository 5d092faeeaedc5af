//! From where the log is followed, so that every table gets what it lacks.

use std::collections::BTreeSet;

use tideway_core::{Result, changes::Followed};

use super::{
    gtid::Gtids,
    position::{Located, gtids, hold_all},
    server::{End, Variables, files},
};
use crate::connect::Session;

pub struct Begin {
    pub start: Located,
    /// The transactions up to there, where the server numbers them.
    pub executed: Option<Gtids>,
    /// Where each table stands.
    pub located: Vec<Located>,
    /// Tables whose place the log does not have: it was purged, or begun anew.
    pub lost: Vec<usize>,
}

impl Begin {
    pub async fn of(
        session: &mut Session,
        variables: &Variables,
        tables: &[Followed],
    ) -> Result<Begin> {
        let log = variables.log();
        let there = files(session).await?;
        let there: BTreeSet<&str> = there.iter().map(|file| file.file.as_str()).collect();
        let known = variables.executed();
        let (mut located, mut lost) = (Vec::new(), Vec::new());
        let mut begin: Vec<(Located, Option<String>)> = Vec::new();
        for (at, followed) in tables.iter().enumerate() {
            let found = log.locate(&followed.from);
            let (place, gtid) = found.map_err(|error| error.while_(&followed.table.id))?;
            // Transactions that this server has not: it was begun anew, or took over too early.
            let strange = match (&known, &gtid) {
                (Some(known), Some(gtid)) => !hold_all(known, gtid),
                _ => false,
            };
            let gone = match &place {
                Located::Here(place) => !there.contains(place.file.as_str()),
                Located::Elsewhere(_) => false,
            };
            if strange || gone {
                lost.push(at);
            } else {
                begin.push((place.clone(), gtid));
            }
            located.push(place);
        }
        // Offsets and transactions cannot be set side by side where a place names none.
        let elsewhere = |at: &Located| matches!(at, Located::Elsewhere(_));
        if begin.iter().any(|(_, gtid)| gtid.is_none()) {
            begin.retain(|(place, _)| !elsewhere(place));
            let others = located.iter().enumerate();
            lost.extend(
                others
                    .filter(|(_, place)| elsewhere(place))
                    .map(|(at, _)| at),
            );
        }
        let (start, gtid) = match earliest(begin) {
            Some(earliest) => earliest,
            None => {
                let end = End::of(session).await?;
                (Located::Here(end.place), end.gtid)
            }
        };
        Ok(Begin {
            executed: gtid.as_deref().and_then(gtids),
            start,
            located,
            lost,
        })
    }
}

/// The earliest of all places. By offset where all are in this log, otherwise by transactions:
/// what one log had executed is among what it had later.
fn earliest(places: Vec<(Located, Option<String>)>) -> Option<(Located, Option<String>)> {
    let here = |place: &Located| matches!(place, Located::Here(_));
    if places.iter().all(|(place, _)| here(place)) {
        return places.into_iter().min_by_key(|(place, _)| match place {
            Located::Here(place) => Some(place.clone()),
            Located::Elsewhere(_) => None,
        });
    }
    let mut numbered = places.into_iter().filter_map(|(_, gtid)| gtid);
    let first = numbered.next()?;
    let lowest = numbered.fold(first, |lowest, gtid| match hold_all(&lowest, &gtid) {
        true => gtid,
        false => lowest,
    });
    Some((Located::Elsewhere(gtids(&lowest)?), Some(lowest)))
}
