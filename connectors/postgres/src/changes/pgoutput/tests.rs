use proptest::prelude::*;

use super::*;

fn parse(bytes: &[u8]) -> Option<Message<'_>> {
    Message::parse(bytes).ok()
}

fn relation() -> Vec<u8> {
    let mut message = b"R\0\0\x40\x01public\0people\0d\0\x02".to_vec();
    message.extend_from_slice(b"\x01id\0\0\0\0\x14\xff\xff\xff\xff");
    message.extend_from_slice(b"\0name\0\0\0\0\x19\xff\xff\xff\xff");
    message
}

fn update() -> Vec<u8> {
    let mut message = b"U\0\0\x40\x01K\0\x02b\0\0\0\x08\0\0\0\0\0\0\0\x01n".to_vec();
    message.extend_from_slice(b"N\0\x02b\0\0\0\x08\0\0\0\0\0\0\0\x02u");
    message
}

fn real() -> Vec<Vec<u8>> {
    vec![
        b"B\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x05\0\0\0\x07".to_vec(),
        b"C\0\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\0\0\x30\0\0\0\0\0\0\0\x05".to_vec(),
        relation(),
        b"I\0\0\x40\x01N\0\x02t\0\0\0\x01\x37n".to_vec(),
        update(),
        b"D\0\0\x40\x01O\0\x02t\0\0\0\x01\x37t\0\0\0\0".to_vec(),
        b"T\0\0\0\x02\x01\0\0\x40\x01\0\0\x40\x02".to_vec(),
        b"Y\0\0\0\x01\0x\0".to_vec(),
    ]
}

#[test]
fn messages_are_taken_apart() {
    assert_eq!(
        parse(&real()[0]),
        Some(Message::Begin {
            commit: 0x1_0000_0002
        })
    );
    assert_eq!(
        parse(&real()[1]),
        Some(Message::Commit {
            end: 0x1_0000_0030,
            at: 5
        })
    );
    let bytes = relation();
    let Some(Message::Relation(relation)) = parse(&bytes) else {
        panic!("no relation");
    };
    assert_eq!(
        (relation.oid, relation.name.as_str(), relation.identity),
        (0x4001, "people", Identity::Default)
    );
    let columns = relation.columns.iter();
    let columns: Vec<_> = columns
        .map(|column| (column.name.as_str(), column.type_oid, column.identifies))
        .collect();
    assert_eq!(columns, [("id", 20, true), ("name", 25, false)]);
    let bytes = update();
    let Some(Message::Update { old, new, .. }) = parse(&bytes) else {
        panic!("no update");
    };
    let old: Vec<Cell<'_>> = old.unwrap().cells().collect();
    assert_eq!(old, [Cell::Binary(&[0, 0, 0, 0, 0, 0, 0, 1]), Cell::Null]);
    let new: Vec<Cell<'_>> = new.cells().collect();
    assert_eq!(new, [Cell::Binary(&[0, 0, 0, 0, 0, 0, 0, 2]), Cell::Kept]);
    assert_eq!(
        parse(&real()[6]),
        Some(Message::Truncate {
            relations: vec![0x4001, 0x4002]
        })
    );
}

#[test]
fn a_message_that_ends_early_is_an_error() {
    for message in real() {
        assert!(parse(&message).is_some());
        // The plugin's other messages are not looked into, and fields that we do not need
        // may be cut off.
        let needed = match message[0] {
            b'B' => 9,
            b'Y' => 1,
            _ => message.len(),
        };
        for length in 0..needed {
            assert_eq!(parse(&message[..length]), None, "{length} of {message:?}");
        }
    }
}

/// Takes everything apart that a message refers to.
fn exhaust(bytes: &[u8]) {
    match parse(bytes) {
        Some(Message::Insert { new, .. }) => assert_eq!(new.cells().count(), new.width),
        Some(Message::Update { old, new, .. }) => {
            assert_eq!(new.cells().count(), new.width);
            if let Some(old) = old {
                assert_eq!(old.cells().count(), old.width);
            }
        }
        Some(Message::Delete { old, .. }) => assert_eq!(old.cells().count(), old.width),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_break_anything(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        exhaust(&bytes);
    }

    #[test]
    fn no_damage_to_a_real_message_breaks_anything(
        which in 0..8_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut message = real().swap_remove(which);
        for (at, byte) in damage {
            let at = at.index(message.len());
            message[at] = byte;
        }
        exhaust(&message);
        exhaust(&message[..cut.index(message.len())]);
    }
}
