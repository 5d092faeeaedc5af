//! The connection check, step by step.

use tideway_core::{CheckReport, Error, Result};

use super::{Postgres, Session, explain::explain};

pub async fn check(postgres: &Postgres) -> CheckReport {
    let mut report = CheckReport::default();
    match postgres.addresses().await {
        Ok(addresses) => report.pass("reach", format!("{} addresses", addresses.len())),
        Err(error) => {
            report.fail("reach", &error);
            return report;
        }
    }
    let _ = (explain, Error::bug(""), None::<Result<Session>>);
    report
}
