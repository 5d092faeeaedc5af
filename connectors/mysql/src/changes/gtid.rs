//! Transactions by the servers' own numbers, which mean the same on every server of a group:
//! by them a stream goes on at a replica that took over.

use std::{collections::BTreeMap, fmt};

use tideway_core::Result;

use crate::connect::{Fields, Flavor};

/// Which transactions have been executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gtids {
    /// Of each source (its UUID, and a tag where it has one) ranges of numbers, both ends
    /// included.
    MySql(BTreeMap<String, Vec<(u64, u64)>>),
    /// Of each domain the last transaction: the server that made it, and its number.
    MariaDb(BTreeMap<u32, (u32, u64)>),
}

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gtid {
    MySql {
        source: String,
        number: u64,
    },
    MariaDb {
        domain: u32,
        server: u32,
        number: u64,
    },
}

impl Gtid {
    /// From the event that begins a transaction.
    pub fn of_mysql(body: &[u8]) -> Result<Gtid> {
        let mut fields = Fields(body);
        fields.byte()?;
        let source = uuid::Uuid::from_bytes(fields.array()?).to_string();
        let number = u64::from_le_bytes(fields.array()?);
        Ok(Gtid::MySql { source, number })
    }

    pub fn of_mariadb(server: u32, body: &[u8]) -> Result<Gtid> {
        let mut fields = Fields(body);
        let number = u64::from_le_bytes(fields.array()?);
        let domain = fields.u32()?;
        Ok(Gtid::MariaDb {
            domain,
            server,
            number,
        })
    }
}

impl Gtids {
    /// `None` where the text is no set of that kind, or one of no transactions.
    pub fn parse(flavor: Flavor, text: &str) -> Option<Gtids> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        match flavor {
            Flavor::MySql => {
                let mut sets: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
                for part in parts {
                    let mut pieces = part.split(':').map(str::trim);
                    let source = pieces.next()?.to_lowercase();
                    let mut name = source.clone();
                    for piece in pieces {
                        match range(piece) {
                            Some(range) => sets.entry(name.clone()).or_default().push(range),
                            None => name = format!("{source}:{}", piece.to_lowercase()),
                        }
                    }
                }
                sets.values_mut().for_each(join);
                Some(Gtids::MySql(sets))
            }
            Flavor::MariaDb => {
                let mut last = BTreeMap::new();
                for part in parts {
                    let mut numbers = part.split('-');
                    let domain = numbers.next()?.parse().ok()?;
                    let server = numbers.next()?.parse().ok()?;
                    last.insert(domain, (server, numbers.next()?.parse().ok()?));
                }
                Some(Gtids::MariaDb(last))
            }
        }
    }

    pub fn add(&mut self, gtid: &Gtid) {
        match (self, gtid) {
            (Gtids::MySql(sets), Gtid::MySql { source, number }) => {
                let ranges = sets.entry(source.clone()).or_default();
                ranges.push((*number, *number));
                join(ranges);
            }
            (
                Gtids::MariaDb(last),
                Gtid::MariaDb {
                    domain,
                    server,
                    number,
                },
            ) => {
                last.insert(*domain, (*server, *number));
            }
            _ => {}
        }
    }

    pub fn holds(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (Gtids::MySql(sets), Gtid::MySql { source, number }) => {
                let ranges = sets.get(source);
                let within = |(first, last): &(u64, u64)| (first..=last).contains(&number);
                ranges.is_some_and(|ranges| ranges.iter().any(within))
            }
            (Gtids::MariaDb(last), Gtid::MariaDb { domain, number, .. }) => {
                last.get(domain).is_some_and(|(_, last)| number <= last)
            }
            _ => false,
        }
    }

    /// Whether all of the other ones are among these.
    pub fn hold_all(&self, others: &Gtids) -> bool {
        match (self, others) {
            (Gtids::MySql(sets), Gtids::MySql(others)) => others.iter().all(|(source, ranges)| {
                ranges.iter().all(|(first, last)| {
                    let own = sets.get(source);
                    own.is_some_and(|own| own.iter().any(|own| own.0 <= *first && own.1 >= *last))
                })
            }),
            (Gtids::MariaDb(last), Gtids::MariaDb(others)) => {
                others.iter().all(|(domain, (_, number))| {
                    last.get(domain).is_some_and(|(_, last)| last >= number)
                })
            }
            _ => false,
        }
    }

    /// As the server wants them to send what comes after; `None` where it has no form that
    /// we know.
    pub fn encoded(&self) -> Option<Vec<u8>> {
        let Gtids::MySql(sets) = self else {
            return None;
        };
        let mut out = Vec::new();
        out.extend_from_slice(&(sets.len() as u64).to_le_bytes());
        for (source, ranges) in sets {
            // One with a tag is no UUID.
            out.extend_from_slice(uuid::Uuid::try_parse(source).ok()?.as_bytes());
            out.extend_from_slice(&(ranges.len() as u64).to_le_bytes());
            for (first, last) in ranges {
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&last.saturating_add(1).to_le_bytes());
            }
        }
        Some(out)
    }
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last).then_some((first, last))
}

/// In order, those that touch being one.
fn join(ranges: &mut Vec<(u64, u64)>) {
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges.drain(..) {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    *ranges = joined;
}

impl fmt::Display for Gtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = match self {
            Gtids::MySql(sets) => sets
                .iter()
                .map(|(source, ranges)| {
                    let ranges = ranges.iter().map(|(first, last)| match first == last {
                        true => format!(":{first}"),
                        false => format!(":{first}-{last}"),
                    });
                    format!("{source}{}", ranges.collect::<String>())
                })
                .collect(),
            Gtids::MariaDb(last) => last
                .iter()
                .map(|(domain, (server, number))| format!("{domain}-{server}-{number}"))
                .collect(),
        };
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn mysql(text: &str) -> Gtids {
        Gtids::parse(Flavor::MySql, text).unwrap()
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let mut gtids = mysql(&format!("{A}:1-3:5,\n {A}:tag:7"));
        assert_eq!(gtids.to_string(), format!("{A}:1-3:5,{A}:tag:7"));
        let fourth = Gtid::MySql {
            source: A.to_owned(),
            number: 4,
        };
        assert!(!gtids.holds(&fourth));
        let before = gtids.clone();
        gtids.add(&fourth);
        assert_eq!(gtids.to_string(), format!("{A}:1-5,{A}:tag:7"));
        assert!(gtids.holds(&fourth) && gtids.hold_all(&before) && !before.hold_all(&gtids));
        assert_eq!(gtids.encoded(), None);
        assert_eq!(mysql(&format!("{A}:1-5")).encoded().unwrap().len(), 48);
        assert_eq!(mysql("").to_string(), "");
    }

    #[test]
    fn domains_count_for_themselves() {
        let of = |text: &str| Gtids::parse(Flavor::MariaDb, text).unwrap();
        let mut gtids = of("0-1-5,2-3-7");
        assert!(gtids.hold_all(&of("0-9-5")) && !gtids.hold_all(&of("1-1-1")));
        gtids.add(&Gtid::MariaDb {
            domain: 0,
            server: 2,
            number: 6,
        });
        assert_eq!(gtids.to_string(), "0-2-6,2-3-7");
        assert_eq!(Gtids::parse(Flavor::MariaDb, "0-1"), None);
    }

    proptest! {
        #[test]
        fn no_text_or_bytes_break_anything(
            text in "[0-9a-f:,\\- x]{0,60}",
            bytes in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            for flavor in [Flavor::MySql, Flavor::MariaDb] {
                let _ = Gtids::parse(flavor, &text).map(|gtids| (gtids.to_string(), gtids.encoded()));
            }
            let _ = Gtid::of_mysql(&bytes);
            let _ = Gtid::of_mariadb(1, &bytes);
        }
    }
}
