//! Decimal digits, eight at once: in a word whose lowest byte is the first digit.

const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);

/// Reads the digits at the beginning of `bytes`. Returns the number with zeros in place of what
/// follows, always of eight digits, and the count of digits.
pub(super) fn read(bytes: [u8; 8]) -> (u64, u32) {
    let digits = u64::from_le_bytes(bytes) ^ ZEROS;
    // The upper half of a byte is zero in both if it is a digit. Only bytes after the first one
    // that is not may be affected by a carry.
    let others = (digits | digits.wrapping_add(0x0606_0606_0606_0606)) & 0xf0f0_f0f0_f0f0_f0f0;
    let count = others.trailing_zeros() / 8;
    let digits = digits & !u64::MAX.checked_shl(8 * count).unwrap_or_default();
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let quads = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    let number = (quads * 10_000 + (quads >> 32)) & 0xffff_ffff;
    (number, count)
}

/// Returns the digits of a number below 10⁸, with leading zeros.
pub(super) fn write(number: u64) -> [u8; 8] {
    let quads = (number / 10_000) | ((number % 10_000) << 32);
    // Division by 100, and by 10, of each part.
    let hundreds = ((quads * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let pairs = hundreds | ((quads - hundreds * 100) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    let digits = tens | ((pairs - tens * 10) << 8);
    (digits | ZEROS).to_le_bytes()
}

/// Returns how many of the last digits are zeros.
pub(super) fn trailing_zeros(digits: [u8; 8]) -> usize {
    let digits = u64::from_le_bytes(digits) ^ ZEROS;
    digits.leading_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_groups_of_four_digits_are_written_and_read() {
        for group in 0..10_000 {
            for number in [group, group * 10_000, 99_990_000 + group] {
                let digits = write(number);
                assert_eq!(digits, format!("{number:08}").as_bytes());
                assert_eq!(read(digits), (number, 8));
                let shown = String::from_utf8_lossy(&digits);
                let len = shown.trim_end_matches('0').len();
                assert_eq!(trailing_zeros(digits), 8 - len);
            }
        }
    }

    proptest! {
        #[test]
        fn digits_end_at_any_other_byte(digits in "[0-9]{0,7}", rest in any::<[u8; 8]>()) {
            prop_assume!(!rest[0].is_ascii_digit());
            let mut bytes = rest;
            bytes.rotate_right(digits.len());
            bytes[..digits.len()].copy_from_slice(digits.as_bytes());
            let number: u64 = format!("{digits:0<8}").parse().unwrap();
            prop_assert_eq!(read(bytes), (number, u32::try_from(digits.len()).unwrap()));
        }
    }
}
