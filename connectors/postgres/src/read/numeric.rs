//! The server's numeric: groups of four decimal digits, a weight, a sign, a scale.

use arrow_buffer::i256;
use tideway_core::types::{DECIMAL_NAN, WIDE_DECIMAL_NAN};

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;
/// Digits that surely fit 128 bits.
const SAFE_DIGITS: i64 = 38;

/// A numeric as it is sent, taken apart but not converted.
#[derive(Debug, Clone, Copy)]
pub struct Numeric<'a> {
    /// Two bytes each, most significant first, 0 to 9999.
    groups: &'a [u8],
    /// Power of 10,000 of the first group.
    weight: i16,
    sign: u16,
    /// Digits behind the point that are shown.
    shown_scale: u16,
}

/// A numeric is no decimal of the wanted size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misfit;

impl<'a> Numeric<'a> {
    /// `None` where the bytes are not a numeric.
    pub fn parse(bytes: &'a [u8]) -> Option<Numeric<'a>> {
        let (count, rest) = bytes.split_first_chunk::<2>()?;
        let (weight, rest) = rest.split_first_chunk::<2>()?;
        let (sign, rest) = rest.split_first_chunk::<2>()?;
        let (scale, groups) = rest.split_first_chunk::<2>()?;
        let sign = u16::from_be_bytes(*sign);
        let known = matches!(sign, 0 | NEGATIVE | NAN | INFINITY | MINUS_INFINITY);
        let complete = groups.len() == usize::from(u16::from_be_bytes(*count)) * 2;
        let numeric = Numeric {
            groups,
            weight: i16::from_be_bytes(*weight),
            sign,
            shown_scale: u16::from_be_bytes(*scale),
        };
        (known && complete && numeric.groups().all(|group| group < 10_000)).then_some(numeric)
    }

    fn groups(&self) -> impl DoubleEndedIterator<Item = u16> + ExactSizeIterator + 'a {
        self.groups
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| u16::from_be_bytes(*pair))
    }

    fn finite(&self) -> bool {
        matches!(self.sign, 0 | NEGATIVE)
    }

    /// The value times ten to the `scale`, exactly; NaN by its own value.
    pub fn to_i128(self, precision: u8, scale: i8) -> Result<i128, Misfit> {
        if self.sign == NAN {
            return Ok(DECIMAL_NAN);
        }
        let scaled = self.scaled(scale)?;
        let units = match scaled.fits_128_bits() {
            true => i128::try_from(scaled.units_128()).map_err(|_| Misfit)?,
            false => scaled.units_256().and_then(i256::to_i128).ok_or(Misfit)?,
        };
        let limit = 10_i128
            .checked_pow(u32::from(precision))
            .unwrap_or(i128::MAX);
        if units >= limit {
            return Err(Misfit);
        }
        Ok(if self.sign == NEGATIVE { -units } else { units })
    }

    /// As [`Numeric::to_i128`], for up to 76 digits.
    pub fn to_i256(self, precision: u8, scale: i8) -> Result<i256, Misfit> {
        if self.sign == NAN {
            return Ok(WIDE_DECIMAL_NAN);
        }
        let units = self.scaled(scale)?.units_256().ok_or(Misfit)?;
        let ten = i256::from_i128(10);
        let limit = ten.checked_pow(u32::from(precision)).ok_or(Misfit)?;
        if units >= limit {
            return Err(Misfit);
        }
        Ok(if self.sign == NEGATIVE {
            units.wrapping_neg()
        } else {
            units
        })
    }

    /// Splits the groups so that multiplying and adding gives whole units of the scale.
    fn scaled(&self, scale: i8) -> Result<Scaled<'a>, Misfit> {
        if !self.finite() {
            // An infinity: a column of this kind holds none.
            return Err(Misfit);
        }
        let trailing_zeros = self.groups().rev().take_while(|group| *group == 0).count();
        let count = self.groups().len() - trailing_zeros;
        let groups = self.groups.get(..count * 2).unwrap_or_default();
        // Power of ten of the last group, in units of the scale.
        let power = 4 * (i64::from(self.weight) - count as i64 + 1) + i64::from(scale);
        let Some((whole, last)) = groups.split_last_chunk::<2>() else {
            return Ok(Scaled {
                whole: &[],
                last: 0,
                last_digits: 0,
                power: 0,
            });
        };
        let last = u16::from_be_bytes(*last);
        if power >= 0 {
            return Ok(Scaled {
                whole,
                last,
                last_digits: 4,
                power,
            });
        }
        // The scale ends within the last group: its rest must be zeros.
        let cut = match power {
            -1 => 10,
            -2 => 100,
            -3 => 1000,
            _ => return Err(Misfit),
        };
        if last % cut != 0 {
            return Err(Misfit);
        }
        Ok(Scaled {
            whole,
            last: last / cut,
            last_digits: (4 + power) as u32,
            power: 0,
        })
    }

    /// Appends the server's own text form; gives the bytes added.
    pub fn write_text(&self, text: &mut Vec<u8>) -> usize {
        let before = text.len();
        match self.sign {
            NAN => text.extend_from_slice(b"NaN"),
            INFINITY => text.extend_from_slice(b"Infinity"),
            MINUS_INFINITY => text.extend_from_slice(b"-Infinity"),
            sign => {
                if sign == NEGATIVE {
                    text.push(b'-');
                }
                self.write_digits(text);
            }
        }
        text.len() - before
    }

    fn write_digits(&self, text: &mut Vec<u8>) {
        let mut groups = self.groups();
        if self.weight < 0 {
            text.push(b'0');
        }
        for place in 0..=i32::from(self.weight) {
            let group = groups.next().unwrap_or(0);
            let digits = four_digits(group);
            let leading = if place == 0 {
                digits
                    .iter()
                    .take(3)
                    .take_while(|digit| **digit == b'0')
                    .count()
            } else {
                0
            };
            text.extend(digits.iter().skip(leading));
        }
        let scale = usize::from(self.shown_scale);
        if scale == 0 {
            return;
        }
        text.push(b'.');
        let end = text.len() + scale;
        // Groups that are all zeros in front are not sent.
        for _ in i32::from(self.weight)..-1 {
            if text.len() < end {
                text.extend_from_slice(b"0000");
            }
        }
        while text.len() < end {
            text.extend_from_slice(&four_digits(groups.next().unwrap_or(0)));
        }
        text.truncate(end);
    }
}

/// A magnitude as `(whole × 10^last_digits + last) × 10^power`.
struct Scaled<'a> {
    whole: &'a [u8],
    last: u16,
    last_digits: u32,
    power: i64,
}

impl Scaled<'_> {
    fn fits_128_bits(&self) -> bool {
        let digits = self.whole.len() as i64 * 2 + i64::from(self.last_digits);
        digits.saturating_add(self.power) <= SAFE_DIGITS
    }

    fn whole(&self) -> impl Iterator<Item = u16> {
        self.whole
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| u16::from_be_bytes(*pair))
    }

    /// Only where [`Scaled::fits_128_bits`].
    fn units_128(&self) -> u128 {
        let whole = self
            .whole()
            .fold(0_u128, |sum, group| sum * 10_000 + u128::from(group));
        let units = whole * 10_u128.pow(self.last_digits) + u128::from(self.last);
        units * 10_u128.pow(self.power as u32)
    }

    fn units_256(&self) -> Option<i256> {
        let number = |small: u16| i256::from_i128(i128::from(small));
        let ten = number(10);
        let whole = self.whole().try_fold(i256::ZERO, |sum, group| {
            sum.checked_mul(number(10_000))?.checked_add(number(group))
        })?;
        let units = whole
            .checked_mul(ten.checked_pow(self.last_digits)?)?
            .checked_add(number(self.last))?;
        let power = u32::try_from(self.power)
            .ok()
            .filter(|power| *power <= 76)?;
        units.checked_mul(ten.checked_pow(power)?)
    }
}

fn four_digits(group: u16) -> [u8; 4] {
    let digit = |value: u16| b'0' + (value % 10) as u8;
    [
        digit(group / 1000),
        digit(group / 100),
        digit(group / 10),
        digit(group),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(groups: &[u16], weight: i16, sign: u16, scale: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((groups.len() as u16).to_be_bytes());
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend(scale.to_be_bytes());
        groups
            .iter()
            .for_each(|group| bytes.extend(group.to_be_bytes()));
        bytes
    }

    fn text(groups: &[u16], weight: i16, sign: u16, scale: u16) -> String {
        let bytes = bytes(groups, weight, sign, scale);
        let mut text = Vec::new();
        Numeric::parse(&bytes).unwrap().write_text(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn text_is_as_the_server_writes_it() {
        assert_eq!(text(&[], 0, 0, 0), "0");
        assert_eq!(text(&[], 0, 0, 2), "0.00");
        assert_eq!(text(&[1, 2345, 6700], 1, NEGATIVE, 2), "-12345.67");
        assert_eq!(text(&[1200], -1, 0, 4), "0.1200");
        assert_eq!(text(&[1], -3, 0, 12), "0.000000000001");
        assert_eq!(text(&[1], 2, 0, 0), "100000000");
        assert_eq!(text(&[], 0, NAN, 0), "NaN");
        assert_eq!(text(&[], 0, MINUS_INFINITY, 0), "-Infinity");
    }

    #[test]
    fn decimals_are_exact_at_their_limits() {
        let nines = [99, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999];
        let whole = bytes(&nines, 9, NEGATIVE, 0);
        let all_nines = 10_i128.pow(38) - 1;
        assert_eq!(
            Numeric::parse(&whole).unwrap().to_i128(38, 0),
            Ok(-all_nines)
        );
        // 0.99…9 with 37 digits: the last group is cut.
        let mut groups = [9999; 10];
        groups[9] = 9000;
        let fraction = bytes(&groups, -1, 0, 37);
        assert_eq!(
            Numeric::parse(&fraction).unwrap().to_i128(37, 37),
            Ok(10_i128.pow(37) - 1)
        );
        let wide = bytes(&[9999; 19], 18, 0, 0);
        let expected = i256::from_i128(10).checked_pow(76).unwrap() - i256::ONE;
        assert_eq!(Numeric::parse(&wide).unwrap().to_i256(76, 0), Ok(expected));
        assert_eq!(Numeric::parse(&wide).unwrap().to_i256(75, 0), Err(Misfit));
        let nan = bytes(&[], 0, NAN, 0);
        assert_eq!(
            Numeric::parse(&nan).unwrap().to_i128(10, 2),
            Ok(DECIMAL_NAN)
        );
        assert_eq!(
            Numeric::parse(&nan).unwrap().to_i256(50, 2),
            Ok(WIDE_DECIMAL_NAN)
        );
    }

    #[test]
    fn what_the_scale_cannot_hold_is_not_rounded() {
        let cents = bytes(&[1, 2345], 0, 0, 4);
        assert_eq!(Numeric::parse(&cents).unwrap().to_i128(10, 4), Ok(12345));
        assert_eq!(Numeric::parse(&cents).unwrap().to_i128(10, 3), Err(Misfit));
        assert_eq!(Numeric::parse(&cents).unwrap().to_i128(4, 4), Err(Misfit));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), precision in 1_u8..=76, scale in 0_i8..=76) {
            if let Some(numeric) = Numeric::parse(&bytes) {
                let _ = numeric.to_i128(precision.min(38), scale.min(38));
                let _ = numeric.to_i256(precision, scale);
                numeric.write_text(&mut Vec::new());
            }
        }

        #[test]
        fn both_widths_agree_with_the_text(
            groups in prop::collection::vec(0_u16..10_000, 0..9), weight in -3_i16..5, scale in 0_u16..13,
        ) {
            let sent = bytes(&groups, weight, 0, scale);
            let numeric = Numeric::parse(&sent).unwrap();
            let (narrow, wide) = (numeric.to_i128(38, scale as i8), numeric.to_i256(76, scale as i8));
            if let (Ok(narrow), Ok(wide)) = (narrow, wide) {
                prop_assert_eq!(i256::from_i128(narrow), wide);
                let mut text = Vec::new();
                numeric.write_text(&mut text);
                let digits: String = String::from_utf8(text).unwrap().replace('.', "");
                prop_assert_eq!(digits.parse::<i128>().unwrap(), narrow);
            }
        }
    }
}
