//! How far behind a stream is.

use tideway_core::{Position, Result, changes::Lag};

use super::{
    position::Place,
    server::{End, Variables, files},
};
use crate::connect::Session;

pub async fn lag(session: &mut Session, reached: &Position) -> Result<Lag> {
    let log = Variables::of(session).await?.log();
    let End {
        place: end, gtid, ..
    } = End::of(session).await?;
    let files = files(session).await?;
    let reached = log.place(reached);
    let warning = match &reached {
        Err(error) => Some(error.what().to_owned()),
        Ok(reached) => warning(&files, reached),
    };
    Ok(Lag {
        end: Some(log.position(&end, gtid)),
        bytes: reached.ok().map(|reached| behind(&files, &reached, &end)),
        retained_bytes: None,
        headroom_bytes: None,
        warning,
    })
}

/// Bytes between two places.
fn behind(files: &[Place], from: &Place, to: &Place) -> u64 {
    if from.file == to.file {
        return to.at.saturating_sub(from.at);
    }
    let start = Place {
        at: 0,
        ..from.clone()
    };
    let between = files
        .iter()
        .filter(|file| **file > start && file.file < to.file);
    let bytes = between.fold(0_u64, |bytes, file| bytes.saturating_add(file.at));
    bytes.saturating_add(to.at).saturating_sub(from.at)
}

fn warning(files: &[Place], reached: &Place) -> Option<String> {
    let there = files.iter().position(|file| file.file == reached.file);
    match there {
        None => Some(
            "the binary log was purged beyond what has arrived: a new snapshot is needed".into(),
        ),
        Some(0) if files.len() > 2 => {
            Some("the binary log's next purge takes what has not arrived".into())
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(file: &str, at: u64) -> Place {
        Place {
            file: file.to_owned(),
            at,
        }
    }

    #[test]
    fn bytes_of_whole_files_lie_between() {
        let files = [place("b.1", 100), place("b.2", 50), place("b.3", 30)];
        assert_eq!(behind(&files, &place("b.1", 40), &place("b.3", 30)), 140);
        assert_eq!(behind(&files, &place("b.3", 10), &place("b.3", 30)), 20);
        assert!(
            warning(&files, &place("b.0", 4))
                .unwrap()
                .contains("purged")
        );
        assert!(
            warning(&files, &place("b.1", 4))
                .unwrap()
                .contains("next purge")
        );
        assert_eq!(warning(&files, &place("b.2", 4)), None);
    }
}
