//! gzip and zstd around text files.
//!
//! Reading goes by the first bytes of the content, not by the name: an object stored
//! with `Content-Encoding: gzip` has no `.gz`, and some tools write plain text into a
//! file called `.gz`. No text file begins with either magic number.

use std::io::{self, BufReader, Cursor, Read, Write};

use flate2::{read::MultiGzDecoder, write::GzEncoder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How the bytes of a file are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// What a name gets appended, with the dot.
    pub fn suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        }
    }
}

/// A name without its compression suffix.
pub fn plain_name(name: &str) -> &str {
    [".gz", ".gzip", ".zst", ".zstd"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

/// The unpacked content of `input`, whatever it is packed with.
pub fn unpacked(mut input: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut head = Vec::with_capacity(ZSTD_MAGIC.len());
    input
        .by_ref()
        .take(ZSTD_MAGIC.len() as u64)
        .read_to_end(&mut head)?;
    let packed_as_gzip = head.starts_with(&GZIP_MAGIC);
    let packed_as_zstd = head == ZSTD_MAGIC;
    let whole = Cursor::new(head).chain(input);
    if packed_as_gzip {
        let buffered = BufReader::with_capacity(128 << 10, whole);
        Ok(Box::new(MultiGzDecoder::new(buffered)))
    } else if packed_as_zstd {
        Ok(Box::new(zstd::Decoder::new(whole)?))
    } else {
        Ok(Box::new(whole))
    }
}

/// Packs what is written to it into memory, from where it is taken piece by piece.
pub enum Packer {
    Plain(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

impl Packer {
    pub fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Packer::Plain(Vec::new()),
            Compression::Gzip => {
                Packer::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::fast()))
            }
            Compression::Zstd => Packer::Zstd(zstd::Encoder::new(Vec::new(), 1)?),
        })
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Packer::Plain(out) => out.write_all(bytes),
            Packer::Gzip(encoder) => encoder.write_all(bytes),
            Packer::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    /// What has been packed since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Packer::Plain(out) => out,
            Packer::Gzip(encoder) => encoder.get_mut(),
            Packer::Zstd(encoder) => encoder.get_mut(),
        })
    }

    /// The rest of the file.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Packer::Plain(out) => Ok(out),
            Packer::Gzip(encoder) => encoder.finish(),
            Packer::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_piece_by_piece_unpacks_to_the_same_bytes() {
        let text = "id,name\n1,Ada\n".repeat(5000);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut packer = Packer::new(compression).unwrap();
            let mut packed = Vec::new();
            for piece in text.as_bytes().chunks(1000) {
                packer.write_all(piece).unwrap();
                packed.extend(packer.take());
            }
            packed.extend(packer.finish().unwrap());
            let mut back = String::new();
            unpacked(Box::new(Cursor::new(packed)))
                .unwrap()
                .read_to_string(&mut back)
                .unwrap();
            assert_eq!(back, text, "{compression:?}");
        }
    }

    #[test]
    fn suffixes_are_not_part_of_the_name() {
        assert_eq!(plain_name("orders.csv.gz"), "orders.csv");
        assert_eq!(plain_name("orders.csv.zst"), "orders.csv");
        assert_eq!(plain_name("orders.csv"), "orders.csv");
    }
}
