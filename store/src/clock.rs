//! This process's clock, in the precision that the database keeps. Leases do not use
//! it: they go by the database's own.

use chrono::{DateTime, SubsecRound, Utc};

pub(crate) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
