//! The bar of a running copy: rows, bytes, rate, time left.

use std::{
    io::IsTerminal,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tideway_engine::RunMeter;

use crate::print;

/// Drawn on standard error, and only on a terminal; lines of text are printed anywhere.
#[derive(Clone)]
pub struct Progress {
    bar: ProgressBar,
    done: Arc<AtomicUsize>,
    tables: usize,
    quiet: bool,
}

impl Progress {
    pub fn start(meter: Arc<RunMeter>, tables: usize, quiet: bool) -> Progress {
        let bar = ProgressBar::new(0);
        if quiet || !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {prefix} {wide_msg}") {
            bar.set_style(style);
        }
        let progress = Progress {
            bar,
            done: Arc::default(),
            tables,
            quiet,
        };
        progress.clone().draw(meter);
        progress
    }

    fn draw(self, meter: Arc<RunMeter>) {
        let begun = Instant::now();
        tokio::spawn(async move {
            while !self.bar.is_finished() {
                let totals = meter.totals();
                let time = begun.elapsed().as_secs_f64().max(0.001);
                let rate = totals.rows_read as f64 / time;
                let left = totals.rows_expected.saturating_sub(totals.rows_read) as f64 / rate;
                // A bar of no length would be drawn as full.
                self.bar.set_length(totals.rows_expected.max(1));
                self.bar.set_position(totals.rows_read);
                self.bar.set_prefix(format!(
                    "{}/{} tables  {} rows  {}  {} rows/s  {}",
                    self.done.load(Relaxed),
                    self.tables,
                    print::count(totals.rows_read),
                    print::bytes(totals.bytes_read),
                    print::count(rate as u64),
                    if left.is_finite() {
                        format!("{left:.0} s left")
                    } else {
                        String::new()
                    },
                ));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }

    pub fn now(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    pub fn table_done(&self) {
        self.done.fetch_add(1, Relaxed);
    }

    pub fn say(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }

    pub fn stop(&self) {
        self.bar.finish_and_clear();
    }
}
