//! The words and parts of a schedule.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::words::words;

words! {
    pub enum Frequency {
        Manual = "manual",
        /// As soon as may be, at most every five minutes.
        Continuous = "continuous",
        Hourly = "hourly",
        Daily = "daily",
        Weekly = "weekly",
        Custom = "custom",
        Builder = "builder",
        /// When other syncs have ended.
        RunAfter = "runafter",
        Multi = "multi",
        DbtCloud = "dbtcloud",
    }
}

words! {
    /// Which fields a firing carries.
    pub enum SelectiveMode {
        None = "none",
        IncrementalFields = "incrementalFields",
        NonIncrementalFields = "nonincrementalFields",
    }
}

words! {
    /// How a firing begins.
    pub enum ScheduleMode {
        Normal = "normal",
        Refetch = "refetch",
        Resync = "resync",
        Rebuild = "rebuild",
    }
}

/// The parts of a time, as crontab atoms in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    pub frequency: Frequency,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minute: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_of_week: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_of_month: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<String>,
    /// A whole cron expression, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
}

impl Timing {
    pub fn new(frequency: Frequency) -> Self {
        Timing {
            frequency,
            minute: None,
            hour: None,
            day_of_week: None,
            day_of_month: None,
            month: None,
            cron: None,
        }
    }
}

/// The syncs whose end fires a schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunAfter {
    pub bulk_sync_ids: Vec<Uuid>,
    /// Model syncs.
    pub sync_ids: Vec<Uuid>,
}
