//! Loads of changes that come one after the other into the same table: beginning one asks few
//! questions, and does not wait while another one is in its last step.

use tideway_core::{
    Result,
    destination::{Disposition, Load},
};

use super::{
    Begun,
    ddl::{Place, create_stage},
    evolve,
    finish::is_made_by,
    ledger::Ledger,
};
use crate::{
    connect::Session,
    discover::{describe, indexes},
};

/// Begins a load that nothing is known of yet, into a table that fits it as it is. Nothing
/// where it is otherwise.
///
/// Nobody can be in the last step of such a load, so this one does not wait for whoever is in
/// that of another.
pub async fn begin(session: &mut Session, load: &Load, place: &Place) -> Result<Option<Begun>> {
    if load.disposition != Disposition::Retain || load.target.partition_key.is_some() {
        return Ok(None);
    }
    let begun = try_begin(session, load, place).await;
    match begun {
        // What is wrong, if anything is, shows when it is begun like any other load.
        Err(_) if session.settled() => Ok(None),
        begun => begun,
    }
}

async fn try_begin(session: &mut Session, load: &Load, place: &Place) -> Result<Option<Begun>> {
    if Ledger::beside(place).knows(session, &load.id).await? {
        return Ok(None);
    }
    let target = describe(session, &place.database, &place.name).await?;
    let Some(target) = target.filter(|target| !target.view && !is_made_by(target, load)) else {
        return Ok(None);
    };
    if evolve::evolution(&target, load, &session.server)?.is_needed() {
        return Ok(None);
    }
    let found = indexes(session, &place.database, &place.name).await?;
    if !evolve::leads_to_key(&found, &load.target.key) {
        return Ok(None);
    }
    // Fails where it is there: then something is known of the load after all.
    create_stage(session, load, &place.stage(&load.id)).await?;
    Ok(Some(Begun::default()))
}
